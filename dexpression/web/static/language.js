/** The language of the page: that of the browser, or the one that was chosen. */

import * as messages from "./messages.js";
import { recall, remember } from "./memory.js";

const TAGS = { en: "en", pt: "pt-BR" };
const preferred = navigator.languages.map((tag) => tag.slice(0, 2));
let language = [recall("local", "language"), ...preferred].find((name) => name in TAGS) ?? "en";

export const percent = (share) => new Intl.NumberFormat(TAGS[language], { style: "percent" }).format(share);
const translate = (key) => messages[language][key] ?? key;
const countLabels = (counts) => counts.map(([label, count]) => `${count} ${translate(label)}`).join(", ");
const decimal = (value) => new Intl.NumberFormat(TAGS[language], { minimumFractionDigits: 1, maximumFractionDigits: 1 }).format(value);
// How values of these names are written. All others are written as they are.
const FORMATS = { label: translate, reason: translate, region: translate, side: translate, confidence: percent, counts: countLabels, start: decimal, end: decimal };

export const isKnown = (key) => key in messages.en;

/** The text of a key in the page's language, with each {name} replaced by the value of that name. */
export function text(key, values = {}) {
  return translate(key).replace(/\{(\w+)\}/g, (_, name) => (FORMATS[name] ?? String)(values[name])).trim();
}

/** Write a text into an element, which follows the language from then on. */
export function write(element, key, values = {}) {
  element.dataset.text = key;
  element.dataset.values = JSON.stringify(values);
  const written = text(key, values);
  if (element.textContent !== written) element.textContent = written; // a screen reader speaks each change of the status
}

/** Name an element for screen readers; the name follows the language from then on. */
export function writeLabel(element, key) {
  element.dataset.label = key;
  element.setAttribute("aria-label", text(key));
}

/** Write the words of the whole page again. */
export function writePage() {
  document.documentElement.lang = TAGS[language];
  document.querySelectorAll("[data-text]").forEach((element) => {
    write(element, element.dataset.text, JSON.parse(element.dataset.values ?? "{}"));
  });
  document.querySelectorAll("[data-label]").forEach((element) => writeLabel(element, element.dataset.label));
}

/** Let a button change the language; it always names the other one in its own words. */
export function startLanguageSwitch(button) {
  const other = () => (language === "en" ? "pt" : "en");
  const name = () => {
    button.lang = TAGS[other()];
    button.textContent = messages[other()].languageName;
  };
  button.addEventListener("click", () => {
    language = other();
    remember("local", "language", language);
    writePage();
    name();
  });
  writePage();
  name();
}

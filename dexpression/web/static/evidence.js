/** What each place of a face says for each label: dexpression/evidence.py says why it is computed so, and a test compares them. */

const TINY = 2 ** -126; // in place of a probability of 0, whose logarithm is infinite

/**
 * The evidence of one reading for each label: rows of numbers from the top; above 0, the place speaks for the label.
 *
 * `evidence` is the model's output for one face, a tensor [1, heads, labels, rows, columns]; `probabilities` are those of
 * the reading, and `readout` has its vote_share and temperature.
 */
export function evidenceMaps({ data, dims }, probabilities, readout) {
  const [heads, labels, rows, columns] = dims.slice(1).map(range);
  const places = range(rows.length * columns.length);
  const logit = (head, label, place) => data[(head * labels.length + label) * places.length + place] / readout.temperature;
  const logits = heads.map((head) => labels.map((label) => mean(places.map((place) => logit(head, label, place)))));
  const shares = sharesOfHeads(logits, readout.vote_share);
  const mix = (label, place) => sum(heads.map((head) => shares[head][label] * logit(head, label, place)));
  const atPlaces = places.map((place) => centre(labels.map((label) => mix(label, place))));
  const means = centre(labels.map((label) => Math.log(Math.max(probabilities[label], TINY))));
  return labels.map((label) => {
    const added = means[label] - mean(atPlaces.map((values) => values[label]));
    return rows.map((row) => columns.map((column) => atPlaces[row * columns.length + column][label] + added));
  });
}

/** How much of each label's probability comes from each head, by head and label. */
function sharesOfHeads(logits, voteShare) {
  const weights = logits.length === 1 ? [1] : [1 - voteShare, voteShare];
  const parts = logits.map((values, head) => softmax(values).map((probability) => weights[head] * probability + TINY));
  return parts.map((values) => values.map((part, label) => part / sum(parts.map((others) => others[label]))));
}

function softmax(logits) {
  const powers = logits.map((logit) => Math.exp(logit - Math.max(...logits)));
  return powers.map((power) => power / sum(powers));
}

const range = (count) => [...Array(count).keys()];
const sum = (values) => values.reduce((total, value) => total + value, 0);
const mean = (values) => sum(values) / values.length;
const centre = (values) => values.map((value) => value - mean(values));

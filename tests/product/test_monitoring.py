"""The metrics of a real server, as Prometheus's promtool checks them and as the Grafana dashboard queries them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from tests.support.faces import encode
from tests.support.server import ROOT, Server, ask

DASHBOARD = json.loads((ROOT / "deploy" / "grafana" / "dexpression.json").read_text())
QUERIES = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
VARIABLES = {"$instance": ".*", "$__rate_interval": "5m"}  # Grafana's, with values of each
SELECTOR = re.compile(r"(dexpression_\w+)\{([^}]*)\}")
MATCHER = re.compile(r'(\w+)(=~|=)"([^"]*)"')
ADDED_BY_PROMETHEUS = {"instance": "localhost:9874"}


@pytest.fixture(scope="module")
def metrics(light_shipped: Path, portrait: Image.Image) -> str:
    """The metrics after a picture, and a file that is refused."""
    with Server(light_shipped) as server:
        for content in (encode(portrait, "JPEG"), b"not a picture"):
            ask(server.url, content)
        return ask(f"{server.url}/metrics")[1].decode()


def with_values(query: str) -> str:
    for variable, value in VARIABLES.items():
        query = query.replace(variable, value)
    return query


def selected(metrics: str, query: str) -> Iterator[tuple[str, list[dict[str, str]]]]:
    """The name of each metric that a query selects, and the labels of each sample that it finds."""
    families: list[Metric] = list(text_string_to_metric_families(metrics))
    samples = [sample for family in families for sample in family.samples]
    for name, matchers in SELECTOR.findall(with_values(query)):
        wanted = [
            (label, value if kind == "=~" else re.escape(value)) for label, kind, value in MATCHER.findall(matchers)
        ]
        labelled = [sample.labels | ADDED_BY_PROMETHEUS for sample in samples if sample.name == name]
        yield name, [has for has in labelled if all(re.fullmatch(value, has.get(label, "")) for label, value in wanted)]


def run_promtool(*arguments: str, given: str = "") -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed (Debian: prometheus)")
    done = subprocess.run([promtool, *arguments], input=given, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow
def test_the_metrics_pass_the_check_of_promtool(metrics):
    run_promtool("check", "metrics", given=metrics)


@pytest.mark.slow
@pytest.mark.parametrize("query", QUERIES)
def test_a_query_of_the_dashboard_finds_samples_in_real_metrics(metrics, query):
    found = dict(selected(metrics, query))
    assert found
    assert all(found.values()), found
    for names in re.findall(r"by \(([^)]*)\)", query):
        assert all(set(names.split(", ")) <= labels.keys() for samples in found.values() for labels in samples)


def test_every_metric_in_a_query_has_a_selector_of_the_server_that_is_shown():
    for query in QUERIES:
        selectors = SELECTOR.findall(query)
        assert len(selectors) == len(re.findall(r"dexpression_", query))
        assert all('instance=~"$instance"' in matchers for _, matchers in selectors)


def test_the_queries_of_the_dashboard_are_valid_promql(tmp_path):
    rules = [{"record": f"panel:{number}", "expr": with_values(query)} for number, query in enumerate(QUERIES)]
    path = tmp_path / "rules.yml"  # JSON is YAML
    path.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    run_promtool("check", "rules", str(path))


def test_the_dashboard_shows_five_panels_that_do_not_overlap_and_have_titles():
    places = [panel["gridPos"] for panel in DASHBOARD["panels"]]
    cells = [(x, y) for p in places for x in range(p["x"], p["x"] + p["w"]) for y in range(p["y"], p["y"] + p["h"])]
    assert len(cells) == len(set(cells)) == 24 * 24
    assert (
        len({panel["title"] for panel in DASHBOARD["panels"]})
        == len({panel["id"] for panel in DASHBOARD["panels"]})
        == 5
    )

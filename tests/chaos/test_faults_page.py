"""docs/faults.md tells of every fault there is, as it is, and its code runs."""

import json
import re
from pathlib import Path

from kubeloop import chaos
from kubeloop.chaos import catalogue
from kubeloop.chaos.values import domains
from tools.list_faults import BEGIN, PAGE, listing


def test_the_list_is_that_of_the_faults() -> None:
    _, found, told = PAGE.read_text().partition(BEGIN)
    assert found and told.strip() == listing().strip(), "run python tools/list_faults.py"


def test_every_kind_and_every_field_is_there() -> None:
    told = listing()
    for kind in catalogue.faults():
        (section,) = re.findall(rf"### `{kind.__name__}`, .*?(?=\n### |\n## |\Z)", told, re.DOTALL)
        assert all(f"| `{name}` |" in section for name in domains(kind) if name != "at_s")


def test_the_code_runs() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", Path(PAGE).read_text(), re.DOTALL)
    found: dict[str, chaos.Plan] = {}
    exec(code, found)
    assert found["same"] == found["plan"]
    assert json.dumps(found["plan"].to_json())


def test_a_fault_may_be_about_a_custom_kind() -> None:
    fault = chaos.StaleReads(resource="foos.example.com")
    plan = chaos.Plan(happenings=(fault,))
    assert chaos.Plan.from_json(json.dumps(plan.to_json())) == plan

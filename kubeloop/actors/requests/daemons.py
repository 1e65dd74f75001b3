"""How often the template of a DaemonSet has changed: an annotation the system keeps.

Source: the registry of apps/v1 in behaviour; `spec.templateGeneration` lives on in it.
"""

from kubeloop.actors.requests.state import Object
from kubeloop.api.partial import TEMPLATE_GENERATION


def count(new: Object, old: Object | None) -> None:
    """Number the template of a DaemonSet: one for a new one, one more for each other template."""
    number = "1"
    if old is not None:
        was = (old["metadata"].get("annotations") or {}).get(TEMPLATE_GENERATION, "1")
        changed = (new.get("spec") or {}).get("template") != (old.get("spec") or {}).get("template")
        number = str((int(was) if was.isdecimal() else 0) + 1) if changed else was
    metadata = new["metadata"]
    metadata["annotations"] = {**(metadata.get("annotations") or {}), TEMPLATE_GENERATION: number}

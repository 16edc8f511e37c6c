"""The part of an assessment's page that says what its numbers are worth, and what they took."""

from raylift.assess import Assessment
from raylift.report.known import known
from raylift.report.sections import Section, Table


def worth_section(found: Assessment) -> Section:
    """The errors of lungs' and air's volumes on phantoms, true and reconstructed; this assessment's time and memory."""
    tables = [Table(caption=part["caption"], head=part["head"], rows=part["rows"]) for part in known("chest").values()]
    memory = found.record["memory_mib"]
    row = [str(round(found.record["runtime_s"])), "–" if memory is None else str(round(memory))]
    tables.append(Table(caption="What this assessment took", head=["seconds", "the process's memory, MiB"], rows=[row]))
    return Section(title="What the numbers are worth", tables=tables)

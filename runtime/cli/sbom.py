"""sbom."""

from __future__ import annotations

import click

from runtime.cli.invocation import Invocation
from runtime.cli.options import revision_argument, verb
from runtime.cli.output import as_json, message


@verb("sbom", past=True)
@revision_argument()
@click.option("--format", "format_", type=click.Choice(["cyclonedx-json"]), default="cyclonedx-json", show_default=True,
              help="The document's format.")  # fmt: skip
@click.option("--spec-version", type=click.Choice(["1.5", "1.6"]), default="1.6", show_default=True,
              help="CycloneDX's version.")  # fmt: skip
@click.option("--serial-number", is_flag=True, help="Give the document a random serial number.")
def sbom(invocation: Invocation, revision: str, format_: str, spec_version: str, serial_number: bool) -> None:
    """Print a commit's packages as a bill of materials.

    It is a CycloneDX document with a package URL for each package of dpkg, apk, rpm, Python, npm and Ruby. The same
    commit gives the same document, unless --serial-number is asked for. What of a database cannot be understood is
    told, and noted in the document.

    \b
    Example:
      treering sbom nginx > nginx.cdx.json
      treering sbom --spec-version 1.5 main~1
    """
    import uuid

    from runtime.cli.render_packages import tell_notes
    from runtime.packages import inventory
    from runtime.sbom import SPEC_VERSIONS, bill_of_materials

    version = next(known for known in SPEC_VERSIONS if known == spec_version)
    info = invocation.store.commit(invocation.commit(revision))
    root = invocation.store.snapshot(info.root)
    found = inventory(root)
    serial = uuid.uuid4().urn if serial_number else None
    document = bill_of_materials(revision, info, root, found, version, serial)
    output = invocation.output
    output.raw(as_json(document, indent=2))
    output.flush()
    tell_notes(found.notes)
    if not found.packages:
        message("warning: no package manager has written down any package there")


VERBS: dict[str, click.Command] = {"sbom": sbom}

"""The playbook that handles an exception: its steps as the pack has them, and what they came to."""

from __future__ import annotations

from nilometer.api import shapes
from nilometer.api.services import Context
from nilometer.api.tenancy import Tenant
from nilometer.errors import NotFound
from nilometer.incidents.incident import Incident
from nilometer.incidents.packs.pack import Playbook, Step
from nilometer.incidents.packs.reading import PackInvalid, parse_pack


async def playbook_of(ctx: Context, caller: Tenant, incident: Incident) -> Playbook | None:
    """The playbook as the version of the pack has it that the incident goes by; None without one,
    and for a pack that this release cannot read."""
    name, pack, version = incident.playbook, incident.pack, incident.pack_version
    if name is None or pack is None:
        return None

    def read() -> Playbook | None:
        try:
            stored = ctx.packs.acting_as(caller.authority).get(caller.project_id, pack, version)
            return parse_pack(stored.document).playbook(name)
        except (NotFound, PackInvalid):
            return None

    return await ctx.database_workers.run(read)


async def step_named(ctx: Context, caller: Tenant, exception_id: str, step: str) -> str:
    """The name of a step that is given by name, or by its number in the playbook, from 1; no name
    begins with a digit. Raises NotFound for a number that no step has."""
    if not (step.isascii() and step.isdigit() and len(step) < 4):
        return step
    found = await ctx.incidents.read(caller.project_id, lambda reads: reads.incident(exception_id))
    playbook = await playbook_of(ctx, caller, found)
    steps = playbook.steps if playbook is not None else ()
    if not 1 <= int(step) <= len(steps):
        raise NotFound("The playbook has no step of this number.", attr="step")
    return steps[int(step) - 1].name


def shown(found: Incident, playbook: Playbook | None) -> shapes.Json:
    """How an incident's playbook goes. A step that was not come to yet is `pending`; one of the
    steps of recovery is there once it was begun."""
    return {
        "exceptionId": found.id,
        "tenantId": found.project_id,
        "status": found.status,
        "playbook": found.playbook,
        "pack": found.pack,
        "packVersion": found.pack_version,
        "currentStep": found.step,
        "steps": _begun(found) if playbook is None else _of(found, playbook),
    }


def _begun(found: Incident) -> list[shapes.Json]:
    return [{"step": name, **came_to} for name, came_to in found.steps.items()]


def _of(found: Incident, playbook: Playbook) -> list[shapes.Json]:
    ordered = [_step(found, step, number) for number, step in enumerate(playbook.steps, 1)]
    begun = [step for step in playbook.recovery if step.name in found.steps]
    return ordered + [_step(found, step, None) for step in begun]


def _step(found: Incident, step: Step, number: int | None) -> shapes.Json:
    came_to = found.steps.get(step.name, {"status": "pending"})
    told = {"step": step.name, "number": number, "action": step.action}
    return {**told, "description": step.description, **came_to}

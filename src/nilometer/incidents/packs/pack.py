"""A domain pack: the nouns. A document of this form is a pack; `reading.parse_pack` makes it one.

Every text that is an expression is compiled where the pack is read, so that a pack that was read
can be carried out.
"""

from __future__ import annotations

import re
from enum import StrEnum
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints
from pydantic_core import PydanticCustomError

from nilometer.domain.redaction.reading import InvalidRules, read_rules
from nilometer.domain.redaction.rules import RedactionRules
from nilometer.incidents.expressions import InvalidExpression, expression
from nilometer.incidents.incident import Severity
from nilometer.incidents.playbooks.templates import InvalidTemplate, template_of

MAX_TYPES = 200
MAX_RULES = 200
MAX_PLAYBOOKS = 100
MAX_STEPS = 50
MAX_PLACES = 200
"""Placeholders of the parameters of one step."""
MAX_OVERRIDES = 200
MAX_LIST = 500
WEEK = 7 * 24 * 3600
YEAR = 366 * 24 * 3600
DAY = 24 * 3600


class Outcome(StrEnum):
    """What a policy decides, the least severe first: of several the last one counts."""

    ALLOW = "allow"
    REQUIRE_APPROVAL = "require_approval"
    ESCALATE = "escalate"
    BLOCK = "block"


def _condition(text: str) -> str:
    try:
        if not expression(text).is_condition():
            raise PydanticCustomError("condition", "It must be true or false; compare with ==")
    except InvalidExpression as error:
        raise _refusal(error.detail) from None
    return text


def _value(text: str) -> str:
    try:
        expression(text)
    except InvalidExpression as error:
        raise _refusal(error.detail) from None
    return text


def _template(value: Any) -> Any:
    try:
        template_of(value)
    except InvalidTemplate as error:
        raise _refusal(error.detail) from None
    return value


def _params(value: dict[str, Any]) -> dict[str, Any]:
    places = sum(len(template_of(each)) for each in value.values())
    if places > MAX_PLACES:
        told = f"It has {places} placeholders; a step takes at most {MAX_PLACES}"
        raise PydanticCustomError("places", "{told}", {"told": told})
    return value


def _redaction(value: Any) -> Any:
    try:
        read_rules(value)
    except InvalidRules as error:
        raise _refusal(error.detail) from None
    return value


def _refusal(detail: str) -> PydanticCustomError:
    # The engine's words may have braces, which a template of pydantic's would read.
    return PydanticCustomError("refused", "{detail}", {"detail": detail.removeprefix("redaction.")})


NAME = r"^[a-z][a-z0-9-]{0,63}$"
STEP_NAME = r"^[a-z][a-z0-9_]{0,63}$"
TOOL_NAME = r"^[a-z][a-z0-9_.-]{0,99}$"
PATH = re.compile(r"[A-Za-z0-9_$-]+(\.[A-Za-z0-9_$-]+|\.\*)*")

Condition = Annotated[
    str, AfterValidator(_condition), Field(description="A CEL expression that is true or false.")
]
ValueExpression = Annotated[str, AfterValidator(_value), Field(description="A CEL expression.")]
Text = Annotated[str, StringConstraints(min_length=1, max_length=2000)]
Word = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Name = Annotated[str, StringConstraints(pattern=NAME)]
StepName = Annotated[str, StringConstraints(pattern=STEP_NAME)]
Words = Annotated[tuple[Word, ...], Field(max_length=MAX_LIST)]
Level = Severity
Share = Annotated[float, Field(ge=0, le=1)]
Template = Annotated[
    Any, AfterValidator(_template), Field(description="Texts in it may have {{ expression }}.")
]


class Part(BaseModel):
    """Of a pack; never changed. An unknown member is refused: a misspelt one would be ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class ExceptionType(Part):
    """A type of exceptions that the pack knows. `aliases` are other names of it."""

    type: Word
    description: Annotated[str, StringConstraints(max_length=2000)] = ""
    aliases: Words = ()
    severity: Level | None = Field(None, description="Where neither a rule nor the sender says.")
    entity: ValueExpression | None = Field(None, description="What it is about, as text.")
    amount: ValueExpression | None = Field(None, description="The money at stake, exactly.")
    sla_seconds: Annotated[int, Field(ge=1, le=YEAR)] | None = None


class Fingerprint(Part):
    """Which exceptions are the same: of one type, with the same fields, within a window."""

    fields: Annotated[tuple[ValueExpression, ...], Field(min_length=1, max_length=20)]
    window_seconds: Annotated[int, Field(ge=1, le=WEEK)]


class Redaction(Part):
    """What of a payload is never kept. `rules` are as a project's; `paths` are members of the
    payload, as `customer.email`, with `*` for every element."""

    rules: Annotated[dict[str, Any], AfterValidator(_redaction)] = Field(
        default_factory=dict, description="As a project's redaction rules."
    )
    paths: Annotated[
        tuple[Annotated[str, StringConstraints(pattern=f"^{PATH.pattern}$", max_length=500)], ...],
        Field(max_length=MAX_LIST),
    ] = ()

    @cached_property
    def read(self) -> RedactionRules | None:
        """The rules, None where there are none."""
        return read_rules(self.rules)


class Normalisation(Part):
    """How an exception is read. SLA seconds are by severity; a type's own come first."""

    entity: ValueExpression | None = None
    amount: ValueExpression | None = None
    redaction: Redaction = Redaction()
    fingerprint: Fingerprint | None = None
    sla_seconds: dict[Level, Annotated[int, Field(ge=1, le=YEAR)]] = {}


class Classification(Part):
    """Gives an exception another type: the first whose condition is true."""

    name: Name
    when: Condition
    type: Word


class TriageRule(Part):
    """How severe exceptions of some types (by default all) are where its condition is true."""

    name: Name
    types: Words = ()
    when: Condition = "true"
    severity: Level
    confidence: Share = 0.9
    reason: Annotated[str, StringConstraints(max_length=2000)] = ""


class Triage(Part):
    """How an exception is judged."""

    classify: Annotated[tuple[Classification, ...], Field(max_length=MAX_RULES)] = ()
    rules: Annotated[tuple[TriageRule, ...], Field(max_length=MAX_RULES)] = ()


class Guardrail(Part):
    """A rule of policy. One that cannot be evaluated asks for an approval at least."""

    name: Name
    types: Words = ()
    when: Condition
    outcome: Outcome
    reason: Annotated[str, StringConstraints(max_length=2000)] = ""
    approval_seconds: Annotated[int, Field(ge=1, le=WEEK)] | None = None


class Names(Part):
    """A list of what is allowed or blocked. Of an allow list that is not empty everything else is
    blocked."""

    types: Words = ()
    source_systems: Words = ()
    entities: Words = ()
    tools: Words = ()


class RateCap(Part):
    """At most so many are handled automatically in a window; further ones get the outcome."""

    name: Name
    per: Literal["project", "type", "entity", "playbook"] = "project"
    limit: Annotated[int, Field(ge=0, le=1_000_000)]
    window_seconds: Annotated[int, Field(ge=1, le=WEEK)]
    outcome: Literal[Outcome.REQUIRE_APPROVAL, Outcome.ESCALATE, Outcome.BLOCK] = Outcome.ESCALATE


class Confidence(Part):
    """What happens where triage is not sure enough."""

    approval_below: Share = 0.0
    escalate_below: Share = 0.0


class Policy(Part):
    """What may be handled without a person. `approvals` are severities that need one,
    `approval_tools` tools; `approval_seconds` is how long it is waited for; `separate_duties`: who
    raised the exception may not decide."""

    allow: Names = Names()
    block: Names = Names()
    rules: Annotated[tuple[Guardrail, ...], Field(max_length=MAX_RULES)] = ()
    rates: Annotated[tuple[RateCap, ...], Field(max_length=20)] = ()
    confidence: Confidence = Confidence()
    approvals: tuple[Level, ...] = ()
    approval_tools: Words = ()
    approval_seconds: Annotated[int, Field(ge=1, le=WEEK)] = 3600
    separate_duties: bool = True


class Retries(Part):
    """How often a step is tried, and how long it is waited in between: doubled each time, up to the
    longest."""

    attempts: Annotated[int, Field(ge=1, le=20)] = 3
    initial_seconds: Annotated[float, Field(ge=0.1, le=3600)] = 1.0
    longest_seconds: Annotated[float, Field(ge=0.1, le=DAY)] = 300.0


class Manual(Part):
    """What a person is to do, and who."""

    instructions: Template
    assignee: Template = None


class Step(Part):
    """One step: a tool, or something for a person, or a word on the incident. Exactly one of
    `tool`, `manual`, `comment`, `assign` and `escalate` is given."""

    name: StepName
    description: Annotated[str, StringConstraints(max_length=2000)] = ""
    when: Condition | None = Field(None, description="Skipped where it is false.")
    tool: Annotated[str, StringConstraints(pattern=TOOL_NAME)] | None = None
    params: Annotated[dict[str, Template], Field(max_length=50), AfterValidator(_params)] = {}
    dry_run: bool = False
    retries: Retries = Retries()
    timeout_seconds: Annotated[float, Field(gt=0, le=WEEK)] | None = None
    manual: Manual | None = None
    comment: Template = None
    assign: Template = None
    escalate: Template = None
    on_failure: Annotated[str, StringConstraints(pattern=STEP_NAME)] = Field(
        "stop", description="`stop`, `continue`, or the name of a step of `recovery`."
    )

    @property
    def action(self) -> str:
        """What it does: the name of the member that says so."""
        given = (name for name in ACTIONS if getattr(self, name) is not None)
        return next(given, "nothing")


ACTIONS = ("tool", "manual", "comment", "assign", "escalate")


class Playbook(Part):
    """How exceptions of some types (all, by default) are handled where its condition is true.

    The highest priority that matches is taken. `recovery` has the steps that are only come to by
    `on_failure`: after one of them the playbook has failed.
    """

    name: Name
    description: Annotated[str, StringConstraints(max_length=2000)] = ""
    types: Words = ()
    when: Condition = "true"
    priority: Annotated[int, Field(ge=-1000, le=1000)] = 0
    steps: Annotated[tuple[Step, ...], Field(min_length=1, max_length=MAX_STEPS)]
    recovery: Annotated[tuple[Step, ...], Field(max_length=MAX_STEPS)] = ()

    @property
    def tools(self) -> tuple[str, ...]:
        """The tools that it may use, each once."""
        used = (step.tool for step in (*self.steps, *self.recovery) if step.tool)
        return tuple(dict.fromkeys(used))


class Override(Part):
    """What is different for some tenants (projects): what it says comes before the pack's."""

    tenants: Annotated[
        tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1, max_length=MAX_LIST)
    ]
    severities: dict[Word, Level] = {}
    sla_seconds: dict[Level, Annotated[int, Field(ge=1, le=YEAR)]] = {}
    confidence: Confidence | None = None
    approvals: tuple[Level, ...] | None = None
    approval_seconds: Annotated[int, Field(ge=1, le=WEEK)] | None = None
    allow: Names = Names()
    block: Names = Names()


class Pack(Part):
    """A whole pack. `format` is this form's number."""

    format: Literal[1]
    name: Name
    description: Annotated[str, StringConstraints(max_length=2000)] = ""
    domain: Word | None = None
    exceptions: Annotated[tuple[ExceptionType, ...], Field(max_length=MAX_TYPES)] = ()
    normalisation: Normalisation = Normalisation()
    triage: Triage = Triage()
    policy: Policy = Policy()
    playbooks: Annotated[tuple[Playbook, ...], Field(max_length=MAX_PLAYBOOKS)] = ()
    overrides: Annotated[tuple[Override, ...], Field(max_length=MAX_OVERRIDES)] = ()

    def type_named(self, name: str) -> ExceptionType | None:
        """The type of a name or an alias, None where the pack knows none."""
        known = (each for each in self.exceptions if name == each.type or name in each.aliases)
        return next(known, None)

    def override(self, tenant: int) -> Override | None:
        """What is different for this tenant: the first that names it."""
        return next((each for each in self.overrides if tenant in each.tenants), None)

    def playbook(self, name: str) -> Playbook | None:
        """The playbook of this name."""
        return next((each for each in self.playbooks if each.name == name), None)

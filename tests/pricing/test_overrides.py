"""Operators' own prices: exact, dated, unambiguous, and before the book's."""

import json
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from nilometer.errors import ConfigurationError, InvalidInput
from nilometer.pricing import Overrides
from nilometer.pricing.files import load
from nilometer.pricing.overrides import Scope, check_overlaps, made
from tests.pricing.calls import NOON, priced

YEAR = datetime(2026, 1, 1, tzinfo=UTC)
TOKENS = {"uncached_input": "2.00", "text_output": "8.00"}


def override(**given):
    return made(
        **{
            "id": "own",
            "provider": "openai",
            "model": "gpt-4o",
            "effective_from": YEAR,
            **({} if "alias" in given or "per_unit" in given else {"per_million_tokens": TOKENS}),
            **given,
        }
    )


def cost(*entries, provider="openai", model="gpt-4o", project=1, **call):
    overrides = Overrides(entries).for_project(project)
    call = call or {"uncached_input": 1000}
    return priced(provider, model, more={"overrides": overrides}, **call)


def test_a_negotiated_price_goes_before_the_book_and_says_so():
    found = cost(override())
    assert (found.total, found.source, found.version) == (Decimal("0.002"), "override:own", "")
    assert (found.as_of, found.how) == (YEAR.date(), "override")


def test_it_replaces_the_price_whole_so_that_list_prices_do_not_slip_in():
    assert cost(override(), cache_read=1).reason == "component_unpriced:cache_read"
    assert cost(override(), reasoning=1000, image_input=1000).total == Decimal("0.01")


@pytest.mark.parametrize(
    ("at", "total"),
    [
        ("2025-12-31T23:59:59+00:00", "0.0025"),
        ("2026-01-01T00:00:00+00:00", "0.002"),
        ("2026-05-31T23:59:59+00:00", "0.002"),
        ("2026-06-01T00:00:00+00:00", "0.0025"),
    ],
)
def test_it_holds_from_its_first_moment_to_before_its_last(at, total):
    own = override(effective_to=datetime(2026, 6, 1, tzinfo=UTC))
    found = cost(own, at=datetime.fromisoformat(at), uncached_input=1000)
    assert found.total == Decimal(total)


def test_the_projects_goes_before_the_operators_before_the_files():
    def priced_at(scope, dollars, **more):
        tokens = {"uncached_input": dollars}
        return override(id=scope.name, scope=scope, per_million_tokens=tokens, **more)

    file = priced_at(Scope.FILE, "3")
    operator = priced_at(Scope.OPERATOR, "4")
    project = priced_at(Scope.PROJECT, "5", project_id=1)
    assert cost(file).source == "override:FILE"
    assert cost(file, operator).source == "override:OPERATOR"
    assert cost(file, operator, project).source == "override:PROJECT"
    assert cost(file, operator, project, project=2).source == "override:OPERATOR"
    assert cost(project, operator, file).source == "override:PROJECT"


def test_the_name_as_sent_goes_before_the_model_that_it_is():
    model, dated = override(id="model"), override(id="dated", model="gpt-4o-2024-08-06")
    assert cost(model, dated, model="gpt-4o-2024-08-06").source == "override:dated"
    assert cost(model, dated, model="gpt-4o-2024-11-20").source == "override:model"
    assert cost(model, dated, provider=None, model="openai/GPT-4o").source == "override:model"


def test_a_tier_and_a_region_of_its_own_go_before_any():
    batch, all_tiers = override(id="batch", tier="batch"), override(id="any", tier="any")
    assert cost(batch, all_tiers, tier="batch", uncached_input=1).source == "override:batch"
    assert cost(batch, all_tiers, tier="flex", uncached_input=1).source == "override:any"
    assert cost(batch, uncached_input=1).source == "genai-prices"
    here, all_regions = override(id="here", region="eu"), override(id="all")
    assert cost(here, all_regions, region="EU", uncached_input=1).source == "override:here"
    assert cost(here, all_regions, region="us", uncached_input=1).source == "override:all"


def test_whose_it_is_goes_before_the_name_before_the_region_before_the_tier():
    sent = {"model": "gpt-4o-2024-08-06"}
    call = {**sent, "region": "eu", "tier": "batch", "uncached_input": 1}
    of_model = override(id="model", region="eu", tier="batch")
    of_name = override(id="name", tier="any", **sent)
    in_region = override(id="region", region="eu", tier="any", **sent)
    in_tier = override(id="tier", tier="batch", **sent)
    operators = override(id="operator", region="eu", tier="batch", scope=Scope.OPERATOR, **sent)
    for entries in ((of_model, of_name), (of_name, of_model)):
        assert cost(*entries, **call).source == "override:name"
    for entries in ((in_region, in_tier), (in_tier, in_region)):
        assert cost(*entries, **call).source == "override:region"
    project = override(id="project", tier="any")
    for entries in ((operators, project), (project, operators)):
        assert cost(*entries, **call).source == "override:project"


def test_a_deployment_is_the_model_that_its_alias_names():
    alias = override(provider="azure", model="chat-production", alias="openai/gpt-4o")
    found = cost(alias, provider="azure_openai", model="Chat-Production")
    assert (found.total, found.source) == (Decimal("0.0025"), "genai-prices")
    assert (found.provider, found.model, found.how) == ("openai", "gpt-4o", "alias:own exact")
    assert cost(alias, provider=None, model="azure/chat-production").total == Decimal("0.0025")
    own = override(id="price")
    assert cost(alias, own, provider="azure", model="chat-production").source == "override:price"


def test_aliases_are_not_followed_in_a_circle_nor_to_what_is_unknown():
    there = override(id="a", model="one", alias="openai/two")
    back = override(id="b", model="two", alias="openai/one")
    assert cost(there, back, model="one").reason == "unknown_model"


def test_what_the_book_never_heard_of_can_have_a_price():
    places = override(
        provider="google_places", model="places_api", per_unit={"place_details": "0.017"}
    )
    found = cost(places, provider="google_places", model="places_api", units={"place_details": 3})
    assert (found.total, found.unit_cost) == (Decimal("0.051"), Decimal("0.051"))
    none = cost(places, provider="google_places", model="places_api", units={"place_photo": 1})
    assert none.reason == "component_unpriced:place_photo"
    free = override(per_million_tokens={"uncached_input": "0"})
    assert (cost(free).total, cost(free).reason) == (0, "")


@pytest.mark.parametrize(
    ("given", "attr", "says"),
    [
        ({"per_million_tokens": {"uncached_input": 2.5}}, "uncached_input", "must be text"),
        ({"per_million_tokens": {"uncached_input": 2}}, "uncached_input", "must be text"),
        ({"per_million_tokens": {"uncached_input": "-1"}}, "uncached_input", "0 or more"),
        ({"per_million_tokens": {"uncached_input": "1e3"}}, "uncached_input", "exponent"),
        ({"per_million_tokens": {"uncached_input": "NaN"}}, "uncached_input", "price"),
        ({"per_million_tokens": {"uncached_input": "0." + "1" * 13}}, "uncached_input", "12"),
        ({"per_million_tokens": {"uncached_input": "99999999"}}, "uncached_input", "at most"),
        ({"per_million_tokens": {"input": "1"}}, "per_million_tokens", "uncached_input"),
        ({"per_unit": {"text_output": "1"}}, "per_unit", "no token bucket"),
        ({"per_unit": {"Web": "1"}}, "per_unit", "lower case"),
        ({"per_million_tokens": {}}, "alias", "one of the two"),
        ({"per_million_tokens": TOKENS, "alias": "a/b"}, "alias", "one of the two"),
        ({"alias": "gpt-4o"}, "alias", "provider/model"),
        ({"effective_from": datetime(2026, 1, 1)}, "effective_from", "time zone"),  # noqa: DTZ001
        ({"effective_to": YEAR}, "effective_to", "later"),
        ({"tier": "scale"}, "tier", "batch"),
        ({"model": " "}, "model", "characters"),
    ],
)
def test_a_wrong_override_is_refused_with_what_to_change(given, attr, says):
    with pytest.raises(InvalidInput) as refusal:
        override(**given)
    assert attr in refusal.value.attr
    assert says in refusal.value.detail


def test_two_that_say_different_things_of_one_moment_are_refused():
    june = datetime(2026, 6, 1, tzinfo=UTC)
    until = override(id="first", effective_to=june)
    check_overlaps([until, override(id="second", effective_from=june)])
    check_overlaps([override(), override(id="b", tier="batch"), override(id="c", project_id=2)])
    with pytest.raises(InvalidInput, match="second overlaps first"):
        check_overlaps([override(id="second", effective_from=june), override(id="first")])


TOML = """
[[override]]
id = "chat"
provider = "azure"
model = "chat-production"
effective_from = 2026-01-01
per_million_tokens = { uncached_input = "2.10", text_output = "8.40" }

[[override]]
id = "places"
provider = "google_places"
model = "places_api"
effective_from = 2026-01-01T00:00:00Z
project_id = 7
per_unit = { place_details = "0.017" }
"""


def test_a_file_is_read(tmp_path):
    path = tmp_path / "prices.toml"
    path.write_text(TOML)
    chat, places = load(path)
    assert (chat.scope, chat.effective_from, chat.project_id) == (Scope.FILE, YEAR, None)
    assert chat.per_million_tokens["uncached_input"] == Decimal("2.10")
    assert places.project_id == 7
    found = priced(
        "azure", "chat-production", at=NOON, text_output=1, more={"overrides": Overrides([chat])}
    )
    assert found.total == Decimal("0.0000084")
    as_json = tmp_path / "prices.json"
    entry = {"id": "j", "provider": "openai", "model": "m", "effective_from": "2026-01-01"}
    as_json.write_text(json.dumps({"override": [{**entry, "per_unit": {"calls": "1.5"}}]}))
    assert load(as_json)[0].effective_from == YEAR


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("override = 1", "list of tables"),
        ("prices = 1", "prices is not known"),
        ("[[override]]\nid = 'x'", "entry x: effective_from is missing"),
        (TOML.replace('"2.10"', "2.10"), "entry chat: per_million_tokens.uncached_input must be"),
        (TOML.replace('"places"', '"chat"'), "two entries have the id chat"),
        (TOML.replace("2026-01-01\n", "2026-01-01T00:00:00\n"), "entry chat: effective_from needs"),
        (TOML.replace("2026-01-01\n", "'soon'\n"), "entry chat: effective_from must be a date"),
        (TOML.replace("project_id = 7", "project_id = 'x'"), "a project's number"),
        (TOML + "\nper_units = {}", "entry places: per_units is not known"),
        ("[[override", "prices.toml is wrong"),
    ],
)
def test_a_wrong_file_is_refused_with_the_entry_and_what_to_change(tmp_path, text, says):
    path = tmp_path / "prices.toml"
    path.write_text(text)
    with pytest.raises(ConfigurationError) as refusal:
        load(path)
    assert says in refusal.value.detail


def test_an_alias_to_what_nothing_prices_is_told(tmp_path, caplog):
    path = tmp_path / "prices.toml"
    entry = '[[override]]\nid = "{}"\nprovider = "azure"\nmodel = "{}"\n'
    entry += "effective_from = 2026-01-01\nalias = '{}'\n"
    path.write_text(
        TOML
        + entry.format("known", "a", "openai/gpt-4o")
        + entry.format("own", "b", "azure/chat-production")
        + entry.format("slip", "c", "openai/gpt-4p")
    )
    assert len(load(path)) == 5
    (told,) = caplog.messages
    assert "slip" in told
    assert "openai/gpt-4p" in told


def test_a_file_that_is_not_there_is_said_to_be_so(tmp_path):
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load(tmp_path / "none.toml")

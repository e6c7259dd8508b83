"""The names that people really send for providers and models, and how each is taken apart.

Everything here is a table or an anchored pattern. No name is ever found inside another.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

GATEWAYS = frozenset({"litellm", "litellm_proxy"})
"""Providers that pass calls on: the model's own prefix says to whom."""

# The price book's provider id by what sources call it: LiteLLM's custom_llm_provider, the values of
# gen_ai.provider.name and gen_ai.system, Vercel's model providers, PostHog's $ai_provider.
_ALSO_KNOWN_AS: Mapping[str, str] = {
    "openai": "text-completion-openai openai.chat openai.responses openai.completion "
    "openai.embedding openai.image openai.transcription openai.speech openai_responses",
    "azure": "azure-openai azure_openai azureopenai azure_ai azure_text azure.ai.openai "
    "azure.ai.inference az.ai.openai az.ai.inference azure.chat azure.responses "
    "azure-openai.chat azure-openai.responses",
    "anthropic": "claude anthropic.messages anthropic_text",
    "aws": "bedrock bedrock_converse aws_bedrock aws.bedrock aws-bedrock amazon-bedrock "
    "amazon_bedrock amazon.bedrock amazon",
    "google": "gemini vertex vertexai vertex_ai vertex-ai vertex_ai_beta "
    "vertex_ai-anthropic_models "
    "google_genai google-genai google_ai google-ai google-ai-studio google-gla google-vertex "
    "google_vertexai google.generative-ai google.vertex google.vertex.chat gcp.gemini "
    "gcp.vertex_ai gcp.vertex.agent gcp.gen_ai",
    "mistral": "mistralai mistral_ai mistral.chat codestral text-completion-codestral",
    "cohere": "cohere_chat cohere.chat",
    "deepseek": "deepseek.chat",
    "x-ai": "xai x_ai grok xai.chat xai.responses",
    "groq": "groq.chat",
    "perplexity": "perplexity.chat",
    "together": "together_ai together-ai togetherai",
    "fireworks": "fireworks_ai fireworks-ai",
    "moonshotai": "moonshot moonshot_ai",
    "zai": "z-ai z.ai z_ai",
    "zhipuai": "zhipu",
    "voyageai": "voyage voyage_ai",
    "meta": "meta_llama llama_api",
    "github-copilot": "github_copilot",
    "cerebras": "cerebras.chat",
    "cloudflare": "cloudflare_workers_ai workers-ai",
}
PROVIDERS: Mapping[str, str] = {
    alias: provider
    for provider, aliases in _ALSO_KNOWN_AS.items()
    for alias in (provider, *aliases.split())
}
"""Book ids by alias; every other id of the book stands for itself."""

LONGEST_NAME = 512
"""A longer name of a provider or model is looked up nowhere."""

# What may follow a model's name without making it another model: which snapshot. Each is anchored
# to the end. Short numbers are Google's -001, a month and day (-0613), or a year and month (-2402).
_SNAPSHOT = re.compile(
    r"""(?: -\d{8} | -20\d\d-\d\d-\d\d | @\d{8} | @latest | @default
          | -latest | -00\d | -(?:0[1-9]|1[0-2])(?:[0-2]\d|3[01]) | -2\d(?:0[1-9]|1[0-2])
          | -preview | -(?:preview|exp)-\d\d-\d\d | -preview-\d\d-20\d\d
          | \.ft-[0-9a-z]+ (?: -[0-9a-z]+ )* )$""",
    re.VERBOSE,
)
_SHORT_NUMBER = re.compile(r"-\d{3,4}$")
_CLAUDE = re.compile(r"^(?:[a-z0-9-]+[./])*claude-")
# Bedrock's, which may also say how long the context is.
_VERSION = re.compile(r"-v(\d{1,2})(?::(\d{1,2})(?::\d{1,4}k)?)?$")
# Vertex counts the October snapshot of Claude 3.5 Sonnet as a version; all are one price.
_VERTEX_VERSION = re.compile(r"^(claude-3-5-sonnet)-v2(?=@|$)")
_COMPACT_DATE = re.compile(r"-(20\d\d)(\d\d)(\d\d)$")
_BEDROCK_PROFILE = re.compile(r"^(?:us|eu|apac|us-gov|au|jp|ca|in|global)\.(?=[a-z0-9]+\.)")
_BEDROCK_VENDOR = re.compile(
    r"^(?:amazon|anthropic|ai21|cohere|deepseek|google|meta|minimax|mistral|moonshotai|moonshot"
    r"|nvidia|openai|qwen|stability|twelvelabs|writer|zai)\."
)
_AWS_REGION = re.compile(r"^[a-z]{2}(?:-gov)?-[a-z]+-\d$")
_AWS_ROUTES = frozenset({"converse", "converse_like", "invoke"})
_ARN = re.compile(r"^arn:aws[a-z-]*:bedrock:[^/]*:(?:inference-profile|foundation-model)/(.+)$")
_GOOGLE_RESOURCE = re.compile(r"^(?:.+/)?models/([^/]+)$")
_FINE_TUNE = re.compile(r"^(ft:[^:]+):")


def normalized(name: str) -> str:
    """Lower case, without space around it: no provider tells names apart by case."""
    return name.strip().lower()


def split_prefix(model: str) -> tuple[str, str]:
    """`provider/rest` as (provider, rest); ("", model) without a slash."""
    prefix, slash, rest = model.partition("/")
    return (prefix, rest) if slash and rest else ("", model)


def spellings(provider: str, model: str) -> Iterator[str]:
    """The ways to look a model up at its provider, the one as sent first."""
    yield model
    prefix, rest = split_prefix(model)
    if prefix and PROVIDERS.get(prefix, prefix) == provider:
        yield rest
        model = rest
    if provider == "aws":
        yield _bedrock(model)
    elif provider == "google" and (resource := _GOOGLE_RESOURCE.match(model)):
        yield resource[1]
    elif provider == "google" and _VERTEX_VERSION.match(model):
        yield _VERTEX_VERSION.sub(r"\1", model)
    if fine_tune := _FINE_TUNE.match(model):
        yield fine_tune[1]
    if dated := _COMPACT_DATE.search(model):  # LiteLLM's and OpenRouter's gpt-5.2-20251211
        yield f"{model[: dated.start()]}-{dated[1]}-{dated[2]}-{dated[3]}"


def bases(provider: str, name: str) -> list[str]:
    """The name, then the name without what only says which snapshot, shorter and shorter."""
    found = [name]
    while len(shorter := _shorter(provider, found[-1])) < len(found[-1]):
        found.append(shorter)
    if provider != "aws":
        return found
    vendored = [_BEDROCK_PROFILE.sub("", base) for base in found]
    return list(dict.fromkeys([*found, *vendored, *(_BEDROCK_VENDOR.sub("", b) for b in vendored)]))


def version(name: str) -> tuple[str, str] | None:
    """The version that ends a Bedrock name: ("1", "0") of `-v1:0`, ("1", "") of `-v1`."""
    found = _VERSION.search(name)
    return (found[1], found[2] or "") if found else None


def is_bedrock_id(model: str) -> bool:
    """Whether a bare model name has the shape that only Bedrock gives: `vendor.model`."""
    return bool(_BEDROCK_VENDOR.match(_BEDROCK_PROFILE.sub("", model)) or _ARN.match(model))


def is_fine_tune(name: str) -> bool:
    """Whether it names a fine-tuned model, of OpenAI's form or Azure's."""
    return name.startswith("ft:") or ".ft-" in name


def _shorter(provider: str, name: str) -> str:
    """The name without its last suffix that says which snapshot, or at Bedrock which version."""
    if _SHORT_NUMBER.search(name) and _CLAUDE.match(name):
        return name  # Anthropic's snapshots are whole dates; short numbers are versions.
    shorter = _SNAPSHOT.sub("", name)
    return _VERSION.sub("", name) if provider == "aws" and shorter == name else shorter


def _bedrock(model: str) -> str:
    if arn := _ARN.match(model):
        return arn[1]
    first, rest = split_prefix(model)
    while first and (first in _AWS_ROUTES or _AWS_REGION.match(first)):
        model = rest
        first, rest = split_prefix(model)
    return model

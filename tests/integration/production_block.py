"""The production `export` block as people are given it, and the same for another deployment."""

from __future__ import annotations

import re
from collections.abc import Mapping

BLOCK = """\
# PostHog Configuration
export POSTHOG_PROJECT_API_KEY="your_posthog_api_key"
export POSTHOG_HOST="https://app.posthog.com"  # or your self-hosted URL
export POSTHOG_PROJECT_ID="12345"

# AWS S3 Configuration
export AWS_ACCESS_KEY_ID="your_limited_access_key"
export AWS_SECRET_ACCESS_KEY="your_limited_secret_key"
export AWS_DEFAULT_REGION="us-east-1"
export LLMA_S3_BUCKET="your-llma-bucket"
export LLMA_TEAM_ID="123"

# Test Configuration
export LLMA_TEST_MODE="production"
"""


def filled_in(values: Mapping[str, str]) -> str:
    """The block with other values; nothing else of it changes."""
    block = BLOCK
    for name, value in values.items():
        block, count = re.subn(rf'(export {name}=")[^"]*', lambda m, v=value: m[1] + v, block)
        assert count == 1, name
    return block

# SPDX-License-Identifier: Apache-2.0
"""Apache Airflow provider for Vapi, the voice-AI API that places and answers phone calls."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vapi_provider.exceptions import (
        VapiArtifactExpiredError as VapiArtifactExpiredError,
        VapiArtifactNotFoundError as VapiArtifactNotFoundError,
        VapiArtifactRefusedError as VapiArtifactRefusedError,
        VapiAuthenticationError as VapiAuthenticationError,
        VapiCallFailedError as VapiCallFailedError,
        VapiCallInDoubtError as VapiCallInDoubtError,
        VapiCallNotFoundError as VapiCallNotFoundError,
        VapiConcurrencyLimitError as VapiConcurrencyLimitError,
        VapiConfigurationError as VapiConfigurationError,
        VapiConnectionNotFoundError as VapiConnectionNotFoundError,
        VapiError as VapiError,
        VapiNotReachedError as VapiNotReachedError,
        VapiOutsideHoursError as VapiOutsideHoursError,
        VapiPermanentError as VapiPermanentError,
        VapiRateLimitError as VapiRateLimitError,
        VapiTransientError as VapiTransientError,
    )
    from vapi_provider.hooks.vapi import VapiHook as VapiHook
    from vapi_provider.models.outcome import CallOutcome as CallOutcome
    from vapi_provider.notifications.call import VapiNotifier as VapiNotifier
    from vapi_provider.operators.call import (
        VapiCreateCallOperator as VapiCreateCallOperator,
        VapiUpdateCallOperator as VapiUpdateCallOperator,
    )
    from vapi_provider.sensors.call import VapiCallSensor as VapiCallSensor
    from vapi_provider.transfers.calls_to_object_storage import (
        VapiCallsToObjectStorageOperator as VapiCallsToObjectStorageOperator,
    )
    from vapi_provider.transfers.recording_to_object_storage import (
        VapiRecordingToObjectStorageOperator as VapiRecordingToObjectStorageOperator,
    )
    from vapi_provider.triggers.call import VapiCallTrigger as VapiCallTrigger
    from vapi_provider.triggers.ended import VapiCallEndedTrigger as VapiCallEndedTrigger

__version__ = "0.1.0"

_EXPORTS = {
    "CallOutcome": "models.outcome",
    "VapiArtifactExpiredError": "exceptions",
    "VapiArtifactNotFoundError": "exceptions",
    "VapiArtifactRefusedError": "exceptions",
    "VapiAuthenticationError": "exceptions",
    "VapiCallEndedTrigger": "triggers.ended",
    "VapiCallFailedError": "exceptions",
    "VapiCallInDoubtError": "exceptions",
    "VapiCallNotFoundError": "exceptions",
    "VapiCallSensor": "sensors.call",
    "VapiCallTrigger": "triggers.call",
    "VapiConcurrencyLimitError": "exceptions",
    "VapiConfigurationError": "exceptions",
    "VapiConnectionNotFoundError": "exceptions",
    "VapiCallsToObjectStorageOperator": "transfers.calls_to_object_storage",
    "VapiCreateCallOperator": "operators.call",
    "VapiError": "exceptions",
    "VapiHook": "hooks.vapi",
    "VapiNotReachedError": "exceptions",
    "VapiNotifier": "notifications.call",
    "VapiOutsideHoursError": "exceptions",
    "VapiPermanentError": "exceptions",
    "VapiRateLimitError": "exceptions",
    "VapiRecordingToObjectStorageOperator": "transfers.recording_to_object_storage",
    "VapiTransientError": "exceptions",
    "VapiUpdateCallOperator": "operators.call",
}


def __getattr__(name: str) -> Any:
    # Lazy (PEP 562): Airflow imports this module just to read the metadata.
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_EXPORTS[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_EXPORTS])

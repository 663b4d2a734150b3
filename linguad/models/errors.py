"""What can go wrong with a model, as a caller tells it apart (model-manager 7)."""

from __future__ import annotations

import errno
from enum import StrEnum
from typing import ClassVar

from linguad.errors import ErrorCode, LinguadError


class Stage(StrEnum):
    """Where something failed; the value is what events and the registry say (model-manager 7)."""

    NETWORK = "network"
    DISK = "disk"
    CHECKSUM = "checksum"
    UNKNOWN = "unknown"


class Reason(StrEnum):
    """Why a model cannot be used at this moment (model-manager 7)."""

    NOT_INSTALLED = "not_installed"
    DOWNLOADING = "downloading"
    VERIFYING = "verifying"
    ERROR = "error"


class ModelError(LinguadError):
    """Base of all errors of the model manager; the text is one sentence with the cure."""

    code: ClassVar[str] = "model_error"
    stage: ClassVar[Stage] = Stage.UNKNOWN
    retryable: ClassVar[bool] = False
    """Whether the same call may succeed later without anybody changing anything here."""


class ModelNotAvailableError(ModelError):
    """A model is not ready here; the caller reports that and never computes something else instead."""

    code = ErrorCode.MODEL_NOT_AVAILABLE

    def __init__(self, model_id: str, version: str, reason: Reason) -> None:
        self.model_id = model_id
        self.version = version
        self.reason = reason
        super().__init__(f"Model {model_id}@{version} unavailable: {reason}")


class ModelNotFoundError(ModelError):
    """The hub knows no model of that id."""

    code = "model_not_found"


class VersionNotFoundError(ModelError):
    """The hub has no such version of the model, or has withdrawn it."""

    code = "version_not_found"


class DownloadInProgressError(ModelError):
    """Another process downloads or changes this version."""

    code = "download_in_progress"
    retryable = True

    def __init__(self, model_id: str, version: str, owner_pid: int) -> None:
        self.owner_pid = owner_pid
        super().__init__(f"{model_id}@{version} is being changed by process {owner_pid}; wait for its end")


class LockLostError(ModelError):
    """Another process took this task over, for instance because this machine slept; nothing was installed."""

    code = "lock_lost"
    retryable = True


class NetworkError(ModelError):
    """The hub cannot be reached, ends in the middle or is overloaded, and retries did not help."""

    code = "network"
    stage = Stage.NETWORK
    retryable = True


class HubProtocolError(ModelError):
    """The hub answers, but not as its protocol says."""

    code = "hub_protocol"
    stage = Stage.NETWORK


class FileMissingError(HubProtocolError):
    """The hub lists a file that it does not give."""

    code = "file_missing"


class SizeMismatchError(HubProtocolError):
    """The hub sends more bytes of a file than it announced."""

    code = "size_mismatch"


class ChecksumMissingError(ModelError):
    """The hub tells no checksum of a file, so nothing says that what comes is right."""

    code = "checksum_missing"
    stage = Stage.CHECKSUM


class ChecksumError(ModelError):
    """A file is not the one that the hub describes, twice in a row."""

    code = ErrorCode.MODEL_VERIFY_FAILED
    stage = Stage.CHECKSUM
    retryable = True

    def __init__(self, path: str, expected: str, actual: str) -> None:
        self.path = path
        self.expected = expected
        self.actual = actual
        super().__init__(f"{path} has sha256 {actual}, not {expected}; the hub or the line damages it")


class SignatureError(ModelError):
    """A version or package is not signed by a trusted key."""

    code = "signature_invalid"
    stage = Stage.CHECKSUM


class InsufficientSpaceError(ModelError):
    """The disk does not hold what is to be installed; both figures in bytes."""

    code = "insufficient_space"
    stage = Stage.DISK

    def __init__(self, needed: int, free: int, advice: str = "make room or choose another directory") -> None:
        self.needed = needed
        self.free = free
        super().__init__(f"{needed} bytes of free disk are needed and {free} are there; {advice}")


class DiskError(ModelError):
    """The disk refuses to be read or written."""

    code = "disk"
    stage = Stage.DISK


class RegistryError(ModelError):
    """The record of what is installed cannot be read or written."""

    code = "registry"
    stage = Stage.DISK


class InUseError(ModelError):
    """A version is in use, so it is not removed."""

    code = "in_use"
    retryable = True


class NoPreviousVersionError(ModelError):
    """There is no earlier version to go back to."""

    code = "no_previous_version"


class InvalidIdentifierError(ModelError):
    """An id, version or path would not be safe as part of a file name."""

    code = "invalid_identifier"


class PackageError(ModelError):
    """A service package is not built as its description says."""

    code = "package_invalid"


class Cancelled(ModelError):
    """Somebody cancelled the download; what came of it is kept for the next one."""

    code = "cancelled"
    retryable = True


FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
"""What the kernel says when there is no room left."""


def disk_error(error: OSError, needed: int = 0, free: int = 0) -> ModelError:
    """The right error for what the disk said; a full disk is told apart."""
    if error.errno in FULL:
        return InsufficientSpaceError(needed, free)
    what = f" {error.filename}" if error.filename else ""
    return DiskError(f"the disk refuses{what}: {error.strerror or error}; see that it is whole and writable")

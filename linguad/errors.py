"""Errors of linguad: the exception tree, the codes that travel on the wire, and why sockets are closed."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum, StrEnum


class LinguadError(Exception):
    """Base of every error that linguad raises on purpose; its text is one sentence for a person."""


class ConfigError(LinguadError):
    """The configuration cannot be used; `problems` holds (path of the setting, problem and cure)."""

    def __init__(self, problems: Sequence[tuple[str, str]]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(f"{path}: {problem}" for path, problem in self.problems))


class StoreError(LinguadError):
    """The database does not do what it must: away, full, locked for too long; the text names the cure."""


class AudioError(LinguadError):
    """Audio bytes are not what their declared format says (session-protocol 1.7)."""


class EngineError(LinguadError):
    """A speech or translation engine of the reference node failed or is missing; the text names the cure."""


class WireError(LinguadError):
    """A peer sent a message that cannot be used.

    `code` is the wire code to answer with, `field` the JSON member that is wrong ("" for the whole message).
    """

    def __init__(self, code: ErrorCode, message: str, field: str = "") -> None:
        self.code = code
        self.field = field
        super().__init__(message)


class ErrorCode(StrEnum):
    """Codes in `error`, `ui_event.error_code` and `room_error` (session-protocol 8, node-protocol 8)."""

    INVALID_MESSAGE = "INVALID_MESSAGE"
    INTERNAL_ERROR = "INTERNAL_ERROR"
    INVALID_SESSION = "INVALID_SESSION"
    SESSION_CLOSED = "SESSION_CLOSED"
    INVALID_PAIRING_CODE = "INVALID_PAIRING_CODE"
    NODE_UNAVAILABLE = "NODE_UNAVAILABLE"
    NODE_OVERLOADED = "NODE_OVERLOADED"
    NO_AVAILABLE_NODE = "NO_AVAILABLE_NODE"
    MODEL_NOT_AVAILABLE = "MODEL_NOT_AVAILABLE"
    MODEL_LOAD_FAILED = "MODEL_LOAD_FAILED"
    MODEL_VERIFY_FAILED = "MODEL_VERIFY_FAILED"
    MODEL_CORRUPTED = "MODEL_CORRUPTED"
    UNSUPPORTED_FEATURE = "UNSUPPORTED_FEATURE"
    WS_DISCONNECTED = "WS_DISCONNECTED"
    NMT_TIMEOUT = "NMT_TIMEOUT"
    TTS_TIMEOUT = "TTS_TIMEOUT"
    JOB_TIMEOUT = "JOB_TIMEOUT"
    SCHEDULER_DEPENDENCY_DOWN = "SCHEDULER_DEPENDENCY_DOWN"
    NO_GPU_AVAILABLE = "NO_GPU_AVAILABLE"
    NODE_ID_CONFLICT = "NODE_ID_CONFLICT"
    INVALID_CAPABILITY_SCHEMA = "INVALID_CAPABILITY_SCHEMA"
    PROCESSING_ERROR = "PROCESSING_ERROR"
    ROOM_NOT_FOUND = "ROOM_NOT_FOUND"
    ALREADY_IN_ROOM = "ALREADY_IN_ROOM"
    ROOM_FULL = "ROOM_FULL"
    INVALID_ROOM_CODE = "INVALID_ROOM_CODE"

    @property
    def hint(self) -> tuple[str, str]:
        """What a user is told, in English and in Chinese (session-protocol 8)."""
        return _HINTS.get(self, _GENERIC_HINT)


_GENERIC_HINT = ("Something went wrong. Please try again.", "出现问题，请重试。")
_RECONNECT = ("Your session is no longer valid. Please reconnect.", "会话已失效，请重新连接。")
_HINTS: dict[ErrorCode, tuple[str, str]] = {
    ErrorCode.INVALID_MESSAGE: ("The request was not understood.", "无法理解该请求。"),
    ErrorCode.INVALID_SESSION: _RECONNECT,
    ErrorCode.SESSION_CLOSED: _RECONNECT,
    ErrorCode.INVALID_PAIRING_CODE: (
        "The pairing code is wrong or has expired.",
        "配对码错误或已过期。",
    ),
    ErrorCode.NO_AVAILABLE_NODE: (
        "No compute node is free right now. Please try again shortly.",
        "当前没有可用的计算节点，请稍后重试。",
    ),
    ErrorCode.MODEL_NOT_AVAILABLE: (
        "A required model is being prepared; the request is rescheduled.",
        "所需模型正在准备中，请求已重新调度。",
    ),
    ErrorCode.MODEL_VERIFY_FAILED: (
        "Model verification failed; it must be downloaded again.",
        "模型校验失败，需要重新下载。",
    ),
    ErrorCode.MODEL_CORRUPTED: (
        "Model files are damaged; they must be downloaded again.",
        "模型文件已损坏，需要重新下载。",
    ),
    ErrorCode.WS_DISCONNECTED: ("Connection lost. Refresh or reconnect.", "连接已断开，请刷新或重新连接。"),
    ErrorCode.NMT_TIMEOUT: ("Translation timed out; try a shorter sentence.", "翻译超时，请尝试更短的句子。"),
    ErrorCode.TTS_TIMEOUT: ("Speech output timed out; try again later.", "语音合成超时，请稍后重试。"),
    ErrorCode.JOB_TIMEOUT: ("Processing timed out; try again later.", "处理超时，请稍后重试。"),
    ErrorCode.SCHEDULER_DEPENDENCY_DOWN: (
        "The service is temporarily unavailable.",
        "服务暂时不可用。",
    ),
    ErrorCode.PROCESSING_ERROR: ("This sentence could not be processed.", "无法处理这句话。"),
    ErrorCode.ROOM_NOT_FOUND: ("Room not found.", "未找到该房间。"),
    ErrorCode.ALREADY_IN_ROOM: ("You are already in this room.", "您已在该房间中。"),
    ErrorCode.ROOM_FULL: ("The room is full.", "房间已满。"),
    ErrorCode.INVALID_ROOM_CODE: ("The room code must be 6 digits.", "房间号必须是 6 位数字。"),
}


class CloseReason(Enum):
    """Why linguad closed a socket: WebSocket close code and the reason text sent with it.

    The member name, lower-cased, is the label in logs and metrics.
    """

    NORMAL = (1000, "")
    SHUTDOWN = (1001, "server is shutting down")
    REGISTRATION_REJECTED = (1008, "registration rejected")
    REGISTRATION_TIMEOUT = (1008, "no registration in time")
    INVALID_SESSION = (1008, "unknown session")
    UNUSABLE_MESSAGE = (1008, "message cannot be used")
    MESSAGE_TOO_BIG = (1009, "message too big")
    INTERNAL_ERROR = (1011, "internal error")
    SILENT_PEER = (1011, "no frame received in time")
    HEARTBEAT_TIMEOUT = (1011, "no heartbeat in time")
    WRITE_TIMEOUT = (1011, "peer does not read")
    TOO_MANY_SESSIONS = (1013, "too many sessions")
    QUEUE_FULL = (1013, "peer reads too slowly")
    SUPERSEDED = (4001, "superseded by a newer connection with the same id")

    def __init__(self, code: int, text: str) -> None:
        self.code = code
        self.text = text

    @property
    def label(self) -> str:
        """Name for logs and metric labels."""
        return self.name.lower()

"""LiteRT's C library by ctypes: an XNNPACK delegate that packs a model's weights without Python's lock.

The runtime's Python module keeps the lock while an interpreter is shaped, and nearly all of that time XNNPACK packs
weights, in the delegate's `Prepare`. The wheel's C library makes the same delegate; here its `Prepare` is called by
ctypes, which lets go of the lock. What the interpreter runs, and how, stays as it is.

The declarations are those of one version of the wheel, because a part of them is the library's own affair. With any
other version there is no library, and interpreters take their default delegate.
"""

import ctypes
import importlib.metadata
import logging
from collections.abc import Callable
from ctypes import POINTER, Structure, byref, c_char_p, c_int, c_int64, c_size_t, c_uint16, c_void_p, sizeof
from functools import cache
from pathlib import Path
from typing import Any

import ai_edge_litert

VERSION = "2.3.0"
UNSUPPORTED = 5  # kLiteRtStatusErrorUnsupported
CPU = 1  # kLiteRtHwAcceleratorCpu
INTEGER = 2  # kLiteRtAnyTypeInt
AUTO_REGISTER_ACCELERATORS = 24  # kLiteRtEnvOptionTagAutoRegisterAccelerators
MIN_LOGGER_SEVERITY, ERRORS = 25, 3  # kLiteRtEnvOptionTagMinLoggerSeverity
XNNPACK = b"xnnpack"

logger = logging.getLogger(__name__)
Handle = c_void_p


class LiteRtAny(Structure):
    """litert_any.h: LiteRtAny; of its union the member that is used here."""

    _fields_ = [("type", c_int), ("int_value", c_int64)]


class LiteRtEnvOption(Structure):
    """litert_environment_options.h: LiteRtEnvOption."""

    _fields_ = [("tag", c_int), ("value", LiteRtAny)]


class LiteRtAbiHeader(Structure):
    """internal/litert_abi_header.h: LiteRtAbiHeader."""

    _fields_ = [(name, c_uint16) for name in ("struct_size", "major_version", "minor_version", "reserved")]


class LiteRtAcceleratorDef(Structure):
    """internal/litert_accelerator_def.h: LiteRtAcceleratorDef, up to the last member that is used here."""

    _fields_ = [
        ("abi_header", LiteRtAbiHeader),
        ("get_name", c_void_p),
        ("get_version", c_void_p),
        ("get_hardware_support", c_void_p),
        ("is_tflite_delegate_responsible_for_jit_compilation", c_void_p),
        ("create_delegate", c_void_p),
    ]
    SIZE, MAJOR = 200, 1


class LiteRtRuntimeContext(Structure):
    """internal/litert_runtime_context.h: LiteRtRuntimeContext, what an accelerator may call of the runtime."""

    _fields_ = [("abi_header", LiteRtAbiHeader), ("functions", c_void_p * 50)]
    # The places of those that XNNPACK's accelerator calls.
    CALLED = {9: "LiteRtGetOpaqueOptions", 10: "LiteRtFindOpaqueOptionsData", 17: "LiteRtWrapDelegate"}


class TfLiteDelegate(Structure):
    """tflite/core/c/common.h: the beginning of TfLiteDelegate."""

    _fields_ = [("data_", c_void_p), ("Prepare", c_void_p)]


# TfLiteStatus of a TfLiteContext*, TfLiteDelegate*
PREPARE = ctypes.CFUNCTYPE(c_int, c_void_p, c_void_p)
# LiteRtStatus of a LiteRtRuntimeContext*, LiteRtEnvironment, LiteRtAccelerator, LiteRtOptions, LiteRtDelegateWrapper*
CREATE_DELEGATE = ctypes.CFUNCTYPE(c_int, POINTER(LiteRtRuntimeContext), Handle, Handle, Handle, POINTER(Handle))
STATUS = ctypes.CFUNCTYPE(c_int)
DESTRUCTOR = ctypes.CFUNCTYPE(None, c_void_p)

# Functions that give a LiteRtStatus, with the types of their arguments as C has them and as ctypes has them.
FUNCTIONS: dict[str, tuple[Any, ...]] = {
    # int, const LiteRtEnvOption*, LiteRtEnvironment*
    "LiteRtCreateEnvironment": (c_int, POINTER(LiteRtEnvOption), POINTER(Handle)),
    # LiteRtEnvironment, LiteRtParamIndex (size_t), LiteRtAccelerator*
    "LiteRtGetAccelerator": (Handle, c_size_t, POINTER(Handle)),
    # LiteRtOptions*
    "LiteRtCreateOptions": (POINTER(Handle),),
    # const char* identifier, void* payload, void (*destructor)(void*), LiteRtOpaqueOptions*
    "LiteRtCreateOpaqueOptions": (c_char_p, c_char_p, DESTRUCTOR, POINTER(Handle)),
    # LiteRtOptions, LiteRtOpaqueOptions, which it takes over
    "LiteRtAddOpaqueOptions": (Handle, Handle),
    # LiteRtDelegateWrapper, TfLiteOpaqueDelegate**
    "LiteRtUnwrapDelegate": (Handle, POINTER(Handle)),
}
# Functions that give nothing: of a LiteRtOptions, and of a LiteRtDelegateWrapper with the delegate in it.
DESTROYERS = ("LiteRtDestroyOptions", "LiteRtDestroyDelegateWrapper")


class Failed(Exception):
    """The library says that a call failed, or is not as it is declared here."""


class Library:
    """The C library, with an environment whose one accelerator is XNNPACK on the processor. It is never closed."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(str(Path(ai_edge_litert.__file__).with_name("libLiteRt.so")))
        for name, arguments in FUNCTIONS.items():
            getattr(self._library, name).argtypes = arguments
        for name in DESTROYERS:
            getattr(self._library, name).argtypes, getattr(self._library, name).restype = (Handle,), None
        options = (LiteRtEnvOption * 2)(
            LiteRtEnvOption(AUTO_REGISTER_ACCELERATORS, LiteRtAny(INTEGER, CPU)),
            LiteRtEnvOption(MIN_LOGGER_SEVERITY, LiteRtAny(INTEGER, ERRORS)),
        )
        self._environment = self._made("LiteRtCreateEnvironment", len(options), options)
        self._accelerator = self._made("LiteRtGetAccelerator", self._environment, 0)
        self._create_delegate = self._creator()
        self._refused = STATUS(lambda: UNSUPPORTED)
        self._context = self._runtime_context()

    def delegate(self, threads: int) -> "Delegate":
        """An XNNPACK delegate for one interpreter, which runs it on so many threads."""
        payload = ctypes.create_string_buffer(b"num_threads = %d\n" % threads)
        options = self._made("LiteRtCreateOptions")
        try:
            kept = self._made("LiteRtCreateOpaqueOptions", XNNPACK, payload, _KEEP)
            self._call("LiteRtAddOpaqueOptions", options, kept)
            wrapper = Handle()
            made = self._create_delegate(byref(self._context), self._environment, self._accelerator, options, wrapper)
            if made:
                raise Failed(f"create_delegate: {made}")
        finally:
            self._library.LiteRtDestroyOptions(options)
        return Delegate(
            wrapper, self._made("LiteRtUnwrapDelegate", wrapper), self._library.LiteRtDestroyDelegateWrapper
        )

    def _creator(self) -> Callable[..., int]:
        address = c_void_p.in_dll(self._library, "LiteRtStaticLinkedAcceleratorCpuDef").value
        if not address:
            raise Failed("There is no accelerator for the processor.")
        accelerator = LiteRtAcceleratorDef.from_address(address)
        found = (accelerator.abi_header.struct_size, accelerator.abi_header.major_version)
        if found != (LiteRtAcceleratorDef.SIZE, LiteRtAcceleratorDef.MAJOR):
            raise Failed(f"LiteRtAcceleratorDef has the size and version {found}.")
        return CREATE_DELEGATE(accelerator.create_delegate)

    def _runtime_context(self) -> LiteRtRuntimeContext:
        """What it does not offer says that it is not supported."""
        functions = (c_void_p * 50)(*[_address(self._refused)] * 50)
        for number, name in LiteRtRuntimeContext.CALLED.items():
            functions[number] = _address(getattr(self._library, name))
        return LiteRtRuntimeContext(LiteRtAbiHeader(sizeof(LiteRtRuntimeContext), 1, 0, 0), functions)

    def _made(self, name: str, *arguments: Any) -> Handle:
        """The handle that a function gives by its last argument."""
        handle = Handle()
        self._call(name, *arguments, byref(handle))
        return handle

    def _call(self, name: str, *arguments: Any) -> None:
        status = getattr(self._library, name)(*arguments)
        if status:
            raise Failed(f"{name}: {status}")


class Delegate:
    """An XNNPACK delegate as the runtime's Python module takes one; it has to outlive its interpreter.

    Its `Prepare` becomes one that calls the old one by ctypes, that is, without Python's lock.
    """

    def __init__(self, wrapper: Handle, delegate: Handle, destroy: Callable[[Handle], None]) -> None:
        self._wrapper, self._delegate, self._destroy = wrapper, delegate, destroy
        fields = TfLiteDelegate.from_address(delegate.value or 0)
        if not fields.Prepare:
            raise Failed("The delegate has no Prepare.")
        prepare = PREPARE(fields.Prepare)

        def unlocked(context: int, delegate: int) -> int:
            return int(prepare(context, delegate))

        self._prepare = PREPARE(unlocked)
        fields.Prepare = _address(self._prepare)

    def _get_native_delegate_pointer(self) -> int | None:
        return self._delegate.value

    def __del__(self) -> None:
        self._destroy(self._wrapper)


@cache
def library() -> Library | None:
    """The library of this process; None where it is another than is declared here."""
    installed = importlib.metadata.version("ai-edge-litert")
    if installed != VERSION or sizeof(c_void_p) != 8:
        logger.warning("LiteRT %s is not the %s that is known; loading a file holds up its process", installed, VERSION)
        return None
    try:
        return Library()
    except (OSError, AttributeError, ValueError, Failed):
        logger.warning("LiteRT's C library cannot be used; loading a file holds up its process", exc_info=True)
        return None


def _address(function: Any) -> int | None:
    return ctypes.cast(function, c_void_p).value


# The payload is Python's.
_KEEP = DESTRUCTOR(lambda payload: None)

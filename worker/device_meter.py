"""Reads clocks, temperature and load of a worker's device from its driver or from the system."""

import os
import socket
import time
from collections.abc import Callable
from functools import cached_property
from typing import Any, TypeVar

import psutil
import structlog

from shared.domain.measurements import Conditions, DeviceReading
from worker.device import Device

log = structlog.get_logger(__name__)

Value = TypeVar("Value")

READ_EVERY_S = 1.0  # of a processor

# What NVML says about why a GPU does not run at its highest clock, without "it is idle".
# Source: nvmlClocksEventReasons in the reference of NVML.
THROTTLE_REASONS = {
    0x2: "applications_clocks",
    0x4: "software_power_cap",
    0x8: "hardware_slowdown",
    0x10: "sync_boost",
    0x20: "software_thermal_slowdown",
    0x40: "hardware_thermal_slowdown",
    0x80: "hardware_power_brake",
    0x100: "display_clocks",
}


class GpuMeter:
    """The state of a GPU by NVML; ``uuid`` as its driver writes it. What NVML refuses is None."""

    def __init__(self, uuid: str, nvml: Any | None = None) -> None:
        self._uuid = uuid
        self._nvml = nvml or _load_nvml()

    def read(self) -> DeviceReading:
        nvml, handle = self._nvml, self._handle
        if handle is None:
            return DeviceReading()
        reasons = self._ask(nvml.nvmlDeviceGetCurrentClocksEventReasons, handle) or 0
        power = self._ask(nvml.nvmlDeviceGetPowerManagementLimit, handle)
        return DeviceReading(
            clock_mhz=self._ask(nvml.nvmlDeviceGetClockInfo, handle, nvml.NVML_CLOCK_SM),
            memory_clock_mhz=self._ask(nvml.nvmlDeviceGetClockInfo, handle, nvml.NVML_CLOCK_MEM),
            temperature_c=self._ask(
                nvml.nvmlDeviceGetTemperature, handle, nvml.NVML_TEMPERATURE_GPU
            ),
            power_limit_w=None if power is None else power / 1000,
            throttle_reasons=tuple(
                name for bit, name in THROTTLE_REASONS.items() if int(reasons) & bit
            ),
        )

    def conditions(self, before: DeviceReading, after: DeviceReading) -> Conditions:
        return Conditions(self._uuid, self._driver, self._default_clock_mhz, before, after)

    @cached_property
    def _handle(self) -> Any | None:
        """The GPU as NVML knows it; a part of one (MIG) has no clocks of its own."""
        try:
            self._nvml.nvmlInit()
            return self._nvml.nvmlDeviceGetHandleByUUID(self._uuid)
        except self._nvml.NVMLError as error:
            log.warning("device_not_read", uuid=self._uuid, error=str(error))
            return None

    @cached_property
    def _driver(self) -> str | None:
        if self._handle is None:
            return None
        version = self._ask(self._nvml.nvmlSystemGetDriverVersion)
        return None if version is None else str(version)

    @cached_property
    def _default_clock_mhz(self) -> float | None:
        if self._handle is None:
            return None
        nvml, of_sms = self._nvml, (self._handle, self._nvml.NVML_CLOCK_SM)
        default = self._ask(nvml.nvmlDeviceGetDefaultApplicationsClock, *of_sms)
        return default or self._ask(nvml.nvmlDeviceGetMaxClockInfo, *of_sms)

    def _ask(self, question: Callable[..., Value], *arguments: object) -> Value | None:
        try:
            return question(*arguments)
        except self._nvml.NVMLError:  # a GPU of another kind does not have this
            return None


class ProcessorMeter:
    """The state of this machine's processor, looked at once a second: that takes milliseconds."""

    def __init__(self) -> None:
        self._reading = DeviceReading()
        self._read_at = -READ_EVERY_S

    def read(self) -> DeviceReading:
        if time.monotonic() - self._read_at >= READ_EVERY_S:
            clock = psutil.cpu_freq()
            self._reading = DeviceReading(
                clock_mhz=clock.current if clock else None, load=round(os.getloadavg()[0], 2)
            )
            self._read_at = time.monotonic()
        return self._reading

    def conditions(self, before: DeviceReading, after: DeviceReading) -> Conditions:
        return Conditions(socket.gethostname(), None, None, before, after)


def meter_of(device: Device) -> GpuMeter | ProcessorMeter:
    """Returns what reads the state of a device."""
    return ProcessorMeter() if device.uuid is None else GpuMeter(device.uuid)


def _load_nvml() -> Any:
    import pynvml

    return pynvml

"""Reading the state of a device, from a driver that answers what the test says."""

import types
from typing import Any

import pytest

from shared.domain.measurements import DeviceReading
from worker.device_meter import GpuMeter, ProcessorMeter


class RefusedError(Exception):
    """What NVML raises."""


def driver(**answers: Any) -> Any:
    """A module like pynvml whose functions give these answers; all others are not supported."""

    def function(name: str) -> Any:
        def answer(*_arguments: object) -> Any:
            if name not in answers:
                raise RefusedError(name)
            found = answers[name]
            return found(*_arguments) if callable(found) else found

        return answer

    module = types.SimpleNamespace(
        NVMLError=RefusedError, NVML_CLOCK_SM=1, NVML_CLOCK_MEM=2, NVML_TEMPERATURE_GPU=0
    )
    for name in (
        "nvmlInit", "nvmlDeviceGetHandleByUUID", "nvmlDeviceGetClockInfo",
        "nvmlDeviceGetTemperature", "nvmlDeviceGetPowerManagementLimit",
        "nvmlDeviceGetCurrentClocksEventReasons", "nvmlSystemGetDriverVersion",
        "nvmlDeviceGetDefaultApplicationsClock", "nvmlDeviceGetMaxClockInfo",
    ):  # fmt: skip
        setattr(module, name, function(name))
    return module


FOUND = {"nvmlInit": None, "nvmlDeviceGetHandleByUUID": "handle"}


def test_a_reading_has_clocks_temperature_power_limit_and_reasons() -> None:
    nvml = driver(
        **FOUND,
        nvmlDeviceGetClockInfo=lambda _handle, kind: {1: 1410, 2: 2619}[kind],
        nvmlDeviceGetTemperature=71,
        nvmlDeviceGetPowerManagementLimit=700_000,
        nvmlDeviceGetCurrentClocksEventReasons=0x1 | 0x4 | 0x40,
    )
    assert GpuMeter("GPU-a", nvml).read() == DeviceReading(
        clock_mhz=1410,
        memory_clock_mhz=2619,
        temperature_c=71,
        power_limit_w=700,
        throttle_reasons=("software_power_cap", "hardware_thermal_slowdown"),
    )


def test_what_the_driver_does_not_support_is_unknown() -> None:
    meter = GpuMeter("GPU-a", driver(**FOUND))
    assert meter.read() == DeviceReading()
    found = meter.conditions(meter.read(), meter.read())
    assert (found.unit, found.driver, found.default_clock_mhz) == ("GPU-a", None, None)


def test_a_machine_without_the_driver_reads_nothing_and_says_so_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    meter = GpuMeter("GPU-a", driver())
    assert [meter.read(), meter.read()] == [DeviceReading()] * 2
    assert caplog.text.count("device_not_read") == 1


def test_the_default_clock_is_that_of_applications_or_else_the_highest() -> None:
    clocks = {"nvmlDeviceGetMaxClockInfo": 1980}
    reading = DeviceReading()
    meter = GpuMeter("GPU-a", driver(**FOUND, **clocks))
    assert meter.conditions(reading, reading).default_clock_mhz == 1980
    clocks["nvmlDeviceGetDefaultApplicationsClock"] = 1755
    meter = GpuMeter("GPU-a", driver(**FOUND, **clocks, nvmlSystemGetDriverVersion="580.65"))
    found = meter.conditions(reading, reading)
    assert (found.default_clock_mhz, found.driver) == (1755, "580.65")


def test_a_processor_has_a_load_and_the_name_of_its_machine() -> None:
    meter = ProcessorMeter()
    reading = meter.read()
    assert reading.load is not None
    assert reading.load >= 0
    assert meter.read() is reading  # looked at once a second
    assert meter.conditions(reading, reading).unit

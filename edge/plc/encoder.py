"""The counter of an encoder in a register of a Modbus TCP server."""

from edge.plc.remote_io import ModbusDevice
from edge.settings.outputs import EncoderSettings

_LASTING = dict.fromkeys(
    (1, 2, 3),
    "it has no such register (exception {code}). Find out which registers hold "
    "its counter, and set outputs.encoder.address and area.",
)


class EncoderCounter:
    """One counter; it is only read."""

    def __init__(self, settings: EncoderSettings) -> None:
        """Nothing is connected yet.

        Raises:
            ModbusClientMissing: the extra is not installed.
        """
        self._settings = settings
        self._device = ModbusDevice(
            key="outputs.encoder",
            host=settings.host,
            port=settings.port,
            timeout_ms=settings.timeout_ms,
        )

    def read(self) -> int:
        """Return what it says now, from 0.

        Raises:
            OutputDeviceAway: it does not answer now.
            OutputRefused: it does not have such a register.
        """
        settings, client = self._settings, self._device.client
        ask = (
            client.read_input_registers
            if settings.area == "input"
            else client.read_holding_registers
        )

        def read() -> int:
            answer = ask(settings.address, count=settings.bits // 16, device_id=settings.unit)
            what = f"{settings.area} register {settings.address}"
            self._device.raise_if_refused(answer, what, _LASTING)
            words = answer.registers if settings.word_order == "big" else answer.registers[::-1]
            return sum(word << 16 * place for place, word in enumerate(reversed(words)))

        return self._device.ask(read)

    def close(self) -> None:
        self._device.client.close()

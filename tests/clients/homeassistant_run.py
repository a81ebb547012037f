"""A real Home Assistant, run by a Python that has it: it adds a Wyoming server, and its assistant hears with it.

    python homeassistant_run.py requirements                     # what its integration wants installed beside it
    python homeassistant_run.py hear HOST PORT LANGUAGE FILE...  # 16 kHz mono PCM16LE; prints JSON

It knows nothing of stt: it is the other side of `test_homeassistant.py`. Home Assistant pins hundreds of packages, so
it has a virtual environment of its own.
"""

import asyncio
import json
import logging
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

CHUNK_BYTES = 320  # 10 ms, as its voice satellites send
INTEGRATIONS = ("homeassistant", "wyoming", "zeroconf")


def requirements() -> set[str]:
    """Return what the integrations want, and those that they depend on."""
    spec = find_spec("homeassistant")
    assert spec is not None
    assert spec.origin is not None
    components = Path(spec.origin).parent / "components"
    wanted: set[str] = set()
    waiting, seen = list(INTEGRATIONS), set[str]()
    while waiting:
        domain = waiting.pop()
        if domain not in seen:
            seen.add(domain)
            manifest = json.loads((components / domain / "manifest.json").read_text())
            wanted |= set(manifest.get("requirements", ()))
            waiting += manifest.get("dependencies", ())
    return wanted


async def started(folder: str) -> Any:
    """Start it without any integration but its own core."""
    from homeassistant import bootstrap, loader
    from homeassistant.config_entries import ConfigEntries
    from homeassistant.core import HomeAssistant
    from homeassistant.core_config import async_process_ha_core_config
    from homeassistant.setup import async_setup_component

    hass = HomeAssistant(folder)
    hass.config.skip_pip = True
    hass.config_entries = ConfigEntries(hass, {})
    loader.async_setup(hass)
    await bootstrap.async_load_base_functionality(hass)
    await async_process_ha_core_config(hass, {})
    for domain in ("homeassistant", "assist_pipeline"):
        assert await async_setup_component(hass, domain, {}), domain
    return hass


async def discovered(hass: Any, host: str, port: int) -> Any:
    """Add a server that was announced in the network, as a user who confirms that."""
    from ipaddress import ip_address

    try:
        from homeassistant.helpers.service_info.zeroconf import ZeroconfServiceInfo
    except ImportError:  # before 2025.2
        from homeassistant.components.zeroconf import ZeroconfServiceInfo

    kind = "_wyoming._tcp.local."
    found = ZeroconfServiceInfo(
        ip_address=ip_address(host),
        ip_addresses=[ip_address(host)],
        port=port,
        hostname="speech.local.",
        type=kind,
        name=f"stt on speech.{kind}",
        properties={},
    )
    form = await hass.config_entries.flow.async_init("wyoming", context={"source": "zeroconf"}, data=found)
    return await hass.config_entries.flow.async_configure(form["flow_id"], {})


async def stream(pcm: bytes) -> AsyncIterator[bytes]:
    """Speak faster than anybody does."""
    for at in range(0, len(pcm), CHUNK_BYTES):
        yield pcm[at : at + CHUNK_BYTES]
        await asyncio.sleep(0)


async def through_an_assistant(hass: Any, entity: str, metadata: Any, pcm: bytes) -> str | None:
    """Speak to a voice assistant that was told to hear with this entity."""
    from homeassistant.components.assist_pipeline import async_pipeline_from_audio_stream
    from homeassistant.components.assist_pipeline.pipeline import AudioSettings, PipelineStage
    from homeassistant.core import Context

    assistant = await hass.data["assist_pipeline"].pipeline_store.async_create_item(
        {
            "name": "Test",
            "language": "en",
            "conversation_engine": "conversation.home_assistant",
            "conversation_language": "en",
            "stt_engine": entity,
            "stt_language": metadata.language,
            "tts_engine": None,
            "tts_language": None,
            "tts_voice": None,
            "wake_word_entity": None,
            "wake_word_id": None,
        }
    )
    heard: list[Any] = []
    await async_pipeline_from_audio_stream(
        hass,
        context=Context(),
        event_callback=heard.append,
        stt_metadata=metadata,
        stt_stream=stream(pcm),
        pipeline_id=assistant.id,
        start_stage=PipelineStage.STT,
        end_stage=PipelineStage.STT,
        audio_settings=AudioSettings(is_vad_enabled=False),
    )
    return next((event.data["stt_output"]["text"] for event in heard if event.type == "stt-end"), None)


async def hear(host: str, port: int, language: str, files: list[Path]) -> dict[str, Any]:
    """Return what it made of a server and of what was said to it."""
    from homeassistant.components import stt
    from homeassistant.const import __version__
    from homeassistant.helpers import entity_registry

    with tempfile.TemporaryDirectory() as folder:
        hass = await started(folder)
        try:
            announced = await discovered(hass, host, port)  # first: of one that was added by hand it knows already
            by_hand = await hass.config_entries.flow.async_init(
                "wyoming", context={"source": "user"}, data={"host": host, "port": port}
            )
            await hass.async_block_till_done()
            registry = entity_registry.async_get(hass)
            ids = [
                entry.entity_id
                for flow in (announced, by_hand)
                for entry in entity_registry.async_entries_for_config_entry(registry, flow["result"].entry_id)
            ]
            provider = stt.async_get_speech_to_text_engine(hass, ids[0])
            metadata = stt.SpeechMetadata(
                language=language,
                format=stt.AudioFormats.WAV,
                codec=stt.AudioCodecs.PCM,
                bit_rate=stt.AudioBitRates.BITRATE_16,
                sample_rate=stt.AudioSampleRates.SAMPLERATE_16000,
                channel=stt.AudioChannels.CHANNEL_MONO,
            )
            assert provider.check_metadata(metadata)
            pcm = [await asyncio.to_thread(file.read_bytes) for file in files]
            results = await asyncio.gather(
                *(provider.internal_async_process_audio_stream(metadata, stream(one)) for one in pcm)
            )
            return {
                "version": __version__,
                "titles": [flow["title"] for flow in (announced, by_hand)],
                "entities": ids,
                "languages": sorted(provider.supported_languages),
                "heard": [[result.result.value, result.text] for result in results],
                "assistant": await through_an_assistant(hass, ids[0], metadata, pcm[0]),
            }
        finally:
            await hass.async_stop(force=True)


def main(arguments: list[str]) -> Iterator[str]:
    match arguments:
        case ["requirements"]:
            yield from sorted(requirements())
        case ["hear", host, port, language, *files]:
            logging.basicConfig(level=logging.WARNING)
            yield json.dumps(asyncio.run(hear(host, int(port), language, [Path(file) for file in files])))
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    for line in main(sys.argv[1:]):
        print(line)

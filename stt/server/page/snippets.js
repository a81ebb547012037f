// How to use this very server from a program, one text for each way; KEY stands for a key, if it wants one.

import { http, ws } from "./place.js";

const native = `${ws}/ws/transcribe`;

export const SNIPPETS = {
  "curl": `curl ${http}/v1/audio/transcriptions -F file=@talk.m4a -F response_format=text
# as subtitles (srt, vtt), or with times of segments and words
curl ${http}/v1/audio/transcriptions -F file=@talk.m4a -F response_format=verbose_json \\
  -F 'timestamp_granularities[]=word'
# word by word while it is heard; with a key: -H 'Authorization: Bearer KEY'
curl -N ${http}/v1/audio/transcriptions -F file=@talk.m4a -F stream=true`,
  "stt client": `stt client --url ${native}`,
  "Python": `import asyncio, json, wave, websockets

async def main():
    with wave.open("talk.wav") as wav:  # 16-bit
        url = f"${native}?sample_rate={wav.getframerate()}&channels={wav.getnchannels()}&interim_results=0"
        # with a key: websockets.connect(url, additional_headers={"Authorization": "Bearer KEY"})
        async with websockets.connect(url) as ws:
            while pcm := wav.readframes(4000):
                await ws.send(pcm)
            await ws.send('{"type": "finish"}')
            async for message in ws:
                message = json.loads(message)
                if message.get("isFinal"):
                    print(message["text"])

asyncio.run(main())`,
  "JavaScript": `const socket = new WebSocket("${native}"); // with a key: new WebSocket(url, ["token", "KEY"])
socket.onmessage = ({ data }) => {
  const message = JSON.parse(data);
  if (message.isFinal) console.log(message.text);
};
// socket.send(pcm): an Int16Array of 16 kHz mono; at the end:
// socket.send('{"type": "finish"}');`,
  "OpenAI SDK (Python)": `from openai import OpenAI

client = OpenAI(base_url="${http}/v1", api_key="KEY")  # any, where the server has no keys
with open("talk.wav", "rb") as file:
    print(client.audio.transcriptions.create(file=file, model="whisper-1").text)`,
  "Deepgram SDK (Python)": `import asyncio, wave
from deepgram import AsyncDeepgramClient, DeepgramClientEnvironment

async def main():
    environment = DeepgramClientEnvironment(
        base="${http}", production="${ws}", agent="${ws}", agent_rest="${http}"
    )
    client = AsyncDeepgramClient(api_key="KEY", environment=environment)  # any, where the server has no keys
    with wave.open("talk.wav") as wav:  # 16-bit mono
        listen = client.listen.v2.connect(
            model="flux-general-en", encoding="linear16", sample_rate=wav.getframerate()
        )
        async with listen as connection:
            while pcm := wav.readframes(4000):
                await connection.send_media(pcm)
            await connection.send_close_stream()
            async for message in connection:
                if getattr(message, "event", None) == "EndOfTurn":
                    print(message.transcript)

asyncio.run(main())`,
  "Deepgram (curl)": `curl ${http}/v1/listen -H 'Authorization: Token KEY' -H 'content-type: audio/wav' --data-binary @talk.wav`,
  "What it speaks": `curl ${http}/ready      # the engine, sessions, what it can do
curl ${http}/v1/models  # names of models
curl ${http}/metrics    # for Prometheus
# native: ${native}
# OpenAI Realtime: ${ws}/v1/realtime
# Deepgram, and its Flux: ${ws}/v1/listen, ${ws}/v2/listen
# Wyoming (Home Assistant): stt serve --wyoming 10300`,
};

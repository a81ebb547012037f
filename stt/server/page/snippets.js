// How to use this very server from a program, one text for each way.

const http = location.origin;
const ws = `${http.replace(/^http/, "ws")}/ws/transcribe`;

export const SNIPPETS = {
  "stt client": `stt client --url ${ws}`,
  "Python": `import asyncio, json, wave, websockets

async def main():
    with wave.open("talk.wav") as wav:  # 16-bit
        url = f"${ws}?sample_rate={wav.getframerate()}&channels={wav.getnchannels()}&interim_results=0"
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
  "JavaScript": `const socket = new WebSocket("${ws}"); // with a key: new WebSocket(url, ["token", key])
socket.onmessage = ({ data }) => {
  const message = JSON.parse(data);
  if (message.isFinal) console.log(message.text);
};
// socket.send(pcm): an Int16Array of 16 kHz mono; at the end:
// socket.send('{"type": "finish"}');`,
  "curl": `curl ${http}/ready`,
};

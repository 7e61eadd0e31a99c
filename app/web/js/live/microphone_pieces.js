// The microphone as int16 pieces of a tenth of a second.
import { closeMicrophone, openMicrophone } from "../parts/microphone.js";

/** {stream, rate, close}; onPiece hears each Int16Array. Throws MicrophoneError. */
export async function listenToMicrophone(onPiece, onLost) {
  const stream = await openMicrophone();
  const context = new AudioContext();
  try {
    await context.audioWorklet.addModule(new URL("./worklet.js", import.meta.url));
    await context.resume();
  } catch (error) {
    closeMicrophone(stream);
    context.close();
    throw error;
  }
  const pieces = new AudioWorkletNode(context, "pieces", { numberOfOutputs: 0, channelCount: 1, channelCountMode: "explicit" });
  pieces.port.onmessage = ({ data }) => onPiece(data);
  context.createMediaStreamSource(stream).connect(pieces);
  stream.getAudioTracks()[0].onended = onLost;
  const close = () => {
    pieces.port.onmessage = null;
    closeMicrophone(stream);
    context.close();
  };
  return { stream, rate: context.sampleRate, close };
}

// The microphone, and why it cannot be had.

export class MicrophoneError extends Error {}

export const NO_MICROPHONE_HERE =
  "Browsers give a page the microphone only over https, or on localhost. "
  + "Open this page through an https address, for instance behind a proxy such as Caddy.";

const REASONS = {
  NotAllowedError: "The browser may not use the microphone. Allow it for this page (beside the address), then try again.",
  NotFoundError: "No microphone was found. Connect one, then try again.",
  NotReadableError: "The microphone is in use by another program, or does not answer.",
};

export const hasMicrophone = () => Boolean(navigator.mediaDevices?.getUserMedia);

/** The microphone's MediaStream. Throws MicrophoneError with a sentence. */
export async function openMicrophone() {
  if (!hasMicrophone()) throw new MicrophoneError(NO_MICROPHONE_HERE);
  try {
    return await navigator.mediaDevices.getUserMedia({
      audio: { channelCount: 1, echoCancellation: false, noiseSuppression: true, autoGainControl: true },
    });
  } catch (error) {
    throw new MicrophoneError(REASONS[error.name] ?? `The microphone cannot be used: ${error.message}`);
  }
}

export const closeMicrophone = (stream) => stream?.getTracks().forEach((track) => track.stop());

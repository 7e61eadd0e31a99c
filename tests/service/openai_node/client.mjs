// Calls the service with the official OpenAI package for Node; prints a line of JSON for each call.
// node client.mjs BASE_URL SHORT SPANISH CONVERSATION

import { createReadStream } from "node:fs";
import { readFile } from "node:fs/promises";
import OpenAI, { toFile } from "openai";

const [baseURL, short, spanish, conversation] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey: "any", maxRetries: 0 });
const { transcriptions, translations } = client.audio;
const model = "whisper-1";
const diarizing = {
  model: "gpt-4o-transcribe-diarize",
  response_format: "diarized_json",
  chunking_strategy: "auto",
};

async function collect(items) {
  const all = [];
  for await (const item of items) all.push(item);
  return all;
}

async function failure(call) {
  try {
    await call();
  } catch (error) {
    const { status, param, code, type, requestID } = error;
    return { class: error.constructor.name, status, param, code, type, requestID };
  }
  return { class: "none" };
}

// stops at the first event, which ends the request
async function abandoned() {
  const file = createReadStream(conversation);
  const stream = await transcriptions.create({ file, ...diarizing, stream: true });
  for await (const event of stream) return event;
}

const calls = {
  models: () => collect(client.models.list()),
  model: () => client.models.retrieve("demo"),
  json: () => transcriptions.create({ file: createReadStream(short), model }),
  text: async () =>
    transcriptions.create({
      file: await toFile(await readFile(short), "Notiz ä.flac"),
      model,
      response_format: "text",
    }),
  verbose: () =>
    transcriptions.create({
      file: createReadStream(conversation),
      model,
      language: "en",
      temperature: 0,
      response_format: "verbose_json",
      timestamp_granularities: ["word", "segment"],
    }),
  logprobs: () =>
    transcriptions.create({ file: createReadStream(spanish), model, include: ["logprobs"] }),
  diarized: () => transcriptions.create({ file: createReadStream(conversation), ...diarizing }),
  translation: () => translations.create({ file: createReadStream(spanish), model }),
  stream: async () =>
    collect(
      await transcriptions.create({ file: createReadStream(conversation), model, stream: true }),
    ),
  diarized_stream: async () =>
    collect(
      await transcriptions.create({
        file: createReadStream(conversation),
        ...diarizing,
        chunking_strategy: { type: "server_vad", threshold: 0.5 },
        stream: true,
      }),
    ),
  abandoned,
  bad_request: () =>
    failure(() => transcriptions.create({ file: createReadStream(short), model, temperature: 2 })),
  bad_file: async () => {
    const file = await toFile(Buffer.from("no media at all"), "meeting.mp3");
    return failure(() => transcriptions.create({ file, model, stream: true }));
  },
  unknown_model: () =>
    failure(() => transcriptions.create({ file: createReadStream(short), model: "nothing" })),
  unknown_model_name: () => failure(() => client.models.retrieve("owner/nothing")),
};

for (const [name, call] of Object.entries(calls)) {
  console.log(JSON.stringify({ name, answer: await call() }));
}

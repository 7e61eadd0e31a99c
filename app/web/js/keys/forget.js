// Forgets the key of this session, for whoever shares the computer.
import { html, useEffect, useState } from "../../vendor/htm-preact.js";
import { currentKey, forgetKey, onKeyChanged } from "./store.js";

export function ForgetKey() {
  const [key, setKey] = useState(currentKey);
  useEffect(() => onKeyChanged(setKey), []);
  return key ? html`<button class="plain small" onClick=${forgetKey}>Forget the key</button>` : null;
}

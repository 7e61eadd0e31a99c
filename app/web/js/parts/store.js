// A value that several views show, and that outlives them.
import { useEffect, useState } from "../../vendor/htm-preact.js";

/** { get, set, use }: `use` is a hook that draws again with each change. */
export function store(value) {
  const listeners = new Set();
  const set = (next) => {
    value = next;
    listeners.forEach((tell) => tell(value));
  };
  const use = () => {
    const [shown, show] = useState(value);
    useEffect(() => {
      show(value); // it may have changed meanwhile
      listeners.add(show);
      return () => listeners.delete(show);
    }, []);
    return shown;
  };
  return { get: () => value, set, use };
}

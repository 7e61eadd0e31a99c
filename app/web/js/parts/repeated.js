// Work that is done again and again while the page is seen.
import { useEffect } from "../../vendor/htm-preact.js";

const HIDDEN_MS = 15_000;

/** Calls work again and again while the page is seen; work says how long to wait, 0 to stop. */
export function useRepeated(work, causes) {
  useEffect(() => {
    let timer = null, stopped = false, number = 0;
    const turn = async () => {
      clearTimeout(timer);
      const mine = ++number;
      const waitMs = document.hidden ? HIDDEN_MS : await work(() => stopped);
      if (stopped || mine !== number) return; // a later turn goes on
      if (waitMs) timer = setTimeout(turn, waitMs);
      else stopped = true;
    };
    const seen = () => { if (!document.hidden && !stopped) turn(); };
    turn();
    document.addEventListener("visibilitychange", seen);
    return () => {
      stopped = true;
      clearTimeout(timer);
      document.removeEventListener("visibilitychange", seen);
    };
  }, causes);
}

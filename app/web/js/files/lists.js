// What the service knows of this client's jobs: those that go on, and the others in pages.
import { useEffect, useRef, useState } from "../../vendor/htm-preact.js";
import { history } from "../api/jobs.js";
import { useHandedIn } from "./uploads.js";

const ACTIVE = "processing,queued", OVER = "done,failed,cancelled";
const BUSY_MS = 1500, IDLE_MS = 15_000, UNREACHABLE_MS = 5000;
const PAGE = 50, MOST = 200;

/** Calls work again and again while the page is seen; work says how long to wait, 0 to stop. */
function useRepeated(work, causes) {
  useEffect(() => {
    let timer = null, stopped = false;
    const turn = async () => {
      clearTimeout(timer);
      const waitMs = document.hidden ? IDLE_MS : await work(() => stopped);
      if (!stopped && waitMs) timer = setTimeout(turn, waitMs);
    };
    const seen = () => { if (!document.hidden) turn(); };
    turn();
    document.addEventListener("visibilitychange", seen);
    return () => {
      stopped = true;
      clearTimeout(timer);
      document.removeEventListener("visibilitychange", seen);
    };
  }, causes);
}

/** { tasks, total, handed, error, again }: `handed`: what was handed in before they were asked for; those that run, then those that wait, in the order of their turns. */
export function useActive() {
  const [active, setActive] = useState({ tasks: [], total: 0, handed: [], error: null });
  const handed = useHandedIn();
  const [turn, setTurn] = useState(0);
  useRepeated(async (isStopped) => {
    try {
      const { tasks, total } = await history({ status: ACTIVE, limit: MOST });
      if (!isStopped()) setActive({ tasks: inOrder(tasks), total, handed, error: null });
      return tasks.length ? BUSY_MS : IDLE_MS;
    } catch (error) {
      if (!isStopped()) setActive((before) => ({ ...before, error }));
      if ([401, 404].includes(error.status)) return 0; // nobody is asked for a key again and again
      return error.retryAfterS * 1000 || UNREACHABLE_MS;
    }
  }, [handed, turn]);
  return { ...active, again: () => setTurn((number) => number + 1) };
}

function inOrder(tasks) {
  const runs = ({ status }) => status === "processing";
  return [...tasks].reverse().sort((one, other) => runs(other) - runs(one));
}

/** { tasks, total, more, showMore, again }; read anew when `causes` change. */
export function useOver({ search, status }, causes) {
  const [over, setOver] = useState({ tasks: null, total: 0, cursor: null });
  const [turn, setTurn] = useState(0);
  const asked = useRef(0);
  const read = async (cursor) => {
    const number = ++asked.current;
    try {
      const limit = cursor ? PAGE : Math.min(MOST, Math.max(PAGE, over.tasks?.length ?? 0));
      const page = await history({ search, status: status || OVER, limit, cursor });
      if (number !== asked.current) return; // a later question has been asked
      setOver((before) => ({
        tasks: cursor ? [...before.tasks, ...page.tasks] : page.tasks, total: page.total, cursor: page.next_cursor,
      }));
    } catch {
      // the other list says what is wrong
    }
  };
  useEffect(() => { read(); }, [search, status, turn, ...causes]);
  return { ...over, showMore: () => read(over.cursor), again: () => setTurn((value) => value + 1) };
}

// What the service knows of this client's jobs: those that go on, and the others in pages.
import { useRef, useState } from "../../vendor/htm-preact.js";
import { history } from "../api/jobs.js";
import { useRepeated } from "../parts/repeated.js";
import { useHandedIn } from "./uploads.js";

const ACTIVE = "processing,queued", OVER = "done,failed,cancelled";
const BUSY_MS = 1500, IDLE_MS = 15_000, UNREACHABLE_MS = 5000;
const PAGE = 50, MOST = 200;

/** { tasks, total, handed, error, recoveries, again }: `tasks`: those that run, then those that wait, in the order of their turns;
 * `handed`: what was handed in before they were asked for; `recoveries`: how often an answer came after an error. */
export function useActive() {
  const [active, setActive] = useState({ tasks: [], total: 0, handed: [], error: null, recoveries: 0 });
  const handed = useHandedIn();
  const [turn, setTurn] = useState(0);
  useRepeated(async (isStopped) => {
    try {
      const { tasks, total } = await history({ status: ACTIVE, limit: MOST });
      if (!isStopped()) setActive((before) => ({ tasks: inOrder(tasks), total, handed, error: null, recoveries: before.recoveries + Boolean(before.error) }));
      return tasks.length ? BUSY_MS : IDLE_MS;
    } catch (error) {
      if (!isStopped()) setActive((before) => ({ ...before, error }));
      return waitAfter(error);
    }
  }, [handed, turn]);
  return { ...active, again: () => setTurn((number) => number + 1) };
}

/** 0: not again, since nobody is asked for a key again and again. */
const waitAfter = ({ status, retryAfterS }) => ([401, 404].includes(status) ? 0 : retryAfterS * 1000 || UNREACHABLE_MS);

function inOrder(tasks) {
  const runs = ({ status }) => status === "processing";
  return [...tasks].reverse().sort((one, other) => runs(other) - runs(one));
}

/** { tasks, total, more, showMore, again }; read anew when `causes` change. */
export function useOver({ search, status }, causes) {
  const [over, setOver] = useState({ tasks: null, total: 0, cursor: null });
  const [turn, setTurn] = useState(0);
  const asked = useRef(0);
  /** How long to wait before another try. */
  const read = async (cursor) => {
    const number = ++asked.current;
    try {
      const limit = cursor ? PAGE : Math.min(MOST, Math.max(PAGE, over.tasks?.length ?? 0));
      const page = await history({ search, status: status || OVER, limit, cursor });
      if (number !== asked.current) return 0; // a later question has been asked
      setOver((before) => ({
        tasks: cursor ? [...before.tasks, ...page.tasks] : page.tasks, total: page.total, cursor: page.next_cursor,
      }));
      return 0;
    } catch (error) {
      return number === asked.current ? waitAfter(error) : 0; // the other list says what is wrong
    }
  };
  useRepeated(() => read(), [search, status, turn, ...causes]);
  return { ...over, showMore: () => read(over.cursor), again: () => setTurn((value) => value + 1) };
}

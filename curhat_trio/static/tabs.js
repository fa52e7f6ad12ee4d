/**
 * Whether another tab of this browser is at work too. Each one that is holds a shared lock for as long, which the
 * browser lets go of even when a tab crashes.
 */

const LOCK = "curhat_trio at work";

let release = null;

/** @param {boolean} working whether this tab is */
export function holdPlace(working) {
  if (!navigator.locks || working === Boolean(release)) return;
  if (!working) {
    release();
    release = null;
    return;
  }
  const done = new Promise((resolve) => { release = resolve; });
  navigator.locks.request(LOCK, { mode: "shared" }, () => done);
}

/** How many other tabs are at work. */
export async function othersAtWork() {
  if (!navigator.locks) return 0;
  const { held } = await navigator.locks.query();
  const places = held.filter(({ name }) => name === LOCK).length;
  return Math.max(0, places - (release ? 1 : 0));
}

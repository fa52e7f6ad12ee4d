/** What the page remembers on this device, and nowhere else: name, topics, language, devices, a corner. */

const KEY = "curhat_trio";

/** Everything remembered. Storage may be switched off or hold rubbish; nothing depends on it. */
function all() {
  try {
    const stored = JSON.parse(localStorage.getItem(KEY) ?? "{}");
    return stored !== null && typeof stored === "object" ? stored : {};
  } catch {
    return {};
  }
}

/** @param {string} subject @param {any} otherwise */
export function recall(subject, otherwise) {
  const value = all()[subject];
  return typeof value === typeof otherwise ? value : otherwise;
}

/** @param {Record<string, string|boolean>} subjects */
export function remember(subjects) {
  try {
    localStorage.setItem(KEY, JSON.stringify({ ...all(), ...subjects }));
  } catch {
    // The same.
  }
}

/** Positions: for each log the offset after the last record that is in a state, partition by partition. */

/** Whether a state at one position has all that another position has; logs that it does not depend on do not matter. */
export function covers(/** @type {string} */ have, /** @type {string} */ want) {
  const reached = offsets(have);
  return [...offsets(want)].every(([log, ends]) => {
    const mine = reached.get(log);
    return !mine || ends.every((end, partition) => (mine[partition] ?? 0) >= end);
  });
}

/** @returns {Map<string, number[]>} */
function offsets(/** @type {string} */ position) {
  const logs = position.split(",").filter((log) => log);
  return new Map(
    logs.map((log) => {
      const colon = log.lastIndexOf(":");
      return [
        decodeURIComponent(log.slice(0, colon)),
        log
          .slice(colon + 1)
          .split(".")
          .map(Number),
      ];
    }),
  );
}

// Keeping what is shown up to date without asking more often than it helps.

/** Wraps `load` so that it never runs twice at a time nor more often than every `pause` ms; a call in between is kept for later.
    The returned function asks for a run; its `stop` ends all. */
export function paced(load, pause) {
  let running = false;
  let wanted = false;
  let stopped = false;
  let timer = 0;
  const run = async () => {
    if (stopped) return;
    if (running) {
      wanted = true;
      return;
    }
    running = true;
    wanted = false;
    await load();
    timer = setTimeout(() => {
      running = false;
      if (wanted) run();
    }, pause);
  };
  run.stop = () => {
    stopped = true;
    clearTimeout(timer);
  };
  return run;
}

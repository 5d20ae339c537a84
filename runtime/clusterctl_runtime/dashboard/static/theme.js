// Light, dark, or as the system has it: the choice stays in this browser.

import { say } from "./dom.js";

const KEY = "clusterctl.theme";
const THEMES = ["auto", "light", "dark"];

function kept() {
  try {
    const theme = localStorage.getItem(KEY);
    return THEMES.includes(theme) ? theme : "auto";
  } catch {
    return "auto"; // a browser that keeps nothing
  }
}

function show(button, theme) {
  document.documentElement.dataset.theme = theme;
  say(button, `Theme: ${theme}`);
}

/** Makes `button` go from one to the next. */
export function offerThemes(button) {
  show(button, kept());
  button.addEventListener("click", () => {
    const theme = THEMES[(THEMES.indexOf(document.documentElement.dataset.theme) + 1) % THEMES.length];
    show(button, theme);
    try {
      if (theme === "auto") localStorage.removeItem(KEY);
      else localStorage.setItem(KEY, theme);
    } catch {
      // until the page is left
    }
  });
}

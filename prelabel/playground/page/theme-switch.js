/** The button for light and dark; the choice is kept in this browser. */

const DARK = matchMedia("(prefers-color-scheme: dark)");

/**
 * @param {HTMLElement} button
 * @param {() => void} changed colours that scripts have read are other ones now
 * @returns {() => void} switches the theme
 */
export function startTheme(button, changed) {
  const root = document.documentElement;
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : DARK.matches);
  const show = () => {
    button.setAttribute("aria-pressed", String(isDark()));
    changed();
  };
  const toggle = () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    try {
      localStorage.setItem("prelabel-theme", root.dataset.theme);
    } catch {
      // It holds for this visit.
    }
    show();
  };
  button.addEventListener("click", toggle);
  DARK.addEventListener("change", show);
  show();
  return toggle;
}

// Runs before the page is drawn, so that it never flashes in the other theme.
try {
  const chosen = localStorage.getItem("prelabel-theme");
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
} catch {
  // The browser stores nothing: the theme is the system's.
}

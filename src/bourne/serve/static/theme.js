// Light or dark, as kept; loaded before the page is painted, so that it never flashes in the other one.
(() => {
  const root = document.documentElement;
  const kept = () => {
    try {
      return localStorage.getItem("bourne.theme");
    } catch {
      return null; // no storage here: the choice lasts as long as the page
    }
  };
  const show = (theme) => {
    if (theme) root.dataset.theme = theme;
    else delete root.dataset.theme;
  };
  show(kept());

  document.addEventListener("DOMContentLoaded", () => {
    const button = document.getElementById("theme");
    const dark = matchMedia("(prefers-color-scheme: dark)");
    const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : dark.matches);
    const label = () => {
      button.textContent = isDark() ? "Light" : "Dark";
      button.setAttribute("aria-label", `Use ${isDark() ? "light" : "dark"} colours`);
    };
    button.addEventListener("click", () => {
      show(isDark() ? "light" : "dark");
      try {
        localStorage.setItem("bourne.theme", root.dataset.theme);
      } catch {
        // as above
      }
      label();
    });
    dark.addEventListener("change", label);
    label();
  });
})();

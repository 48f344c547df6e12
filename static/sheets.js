// Dialogs made of rendered fragments: they take the keyboard while they are open and give it back to where it was.
// Gradio's sanitiser drops their aria attributes, so name and modality are set here.
const qwenSheets = (holders) => {
  const FOCUSABLE = "button:not([disabled]), summary, a[href], input, textarea, select, [tabindex='0']";
  let shown = null;
  let opener = null;

  // What had the keyboard before; what Gradio has drawn anew since is found by its classes.
  function giveBack() {
    const { element, selector } = opener;
    (element.isConnected ? element : selector && document.querySelector(selector))?.focus();
  }

  function look() {
    const sheet = holders.map((holder) => holder.querySelector(".sheet")).find(Boolean) || null;
    if (sheet && sheet !== shown) {
      if (!shown) {
        const element = document.activeElement;
        opener = { element, selector: [...element.classList].map((name) => `.${CSS.escape(name)}`).join("") };
      }
      sheet.setAttribute("aria-modal", "true");
      sheet.setAttribute("aria-label", sheet.querySelector(".sheet-top strong").textContent);
      if (!sheet.contains(document.activeElement)) sheet.querySelector(".sheet-close").focus();
    } else if (!sheet && shown) {
      giveBack();
    }
    shown = sheet;
  }

  // Tab goes round inside the dialog.
  function keepInside(event) {
    if (event.key !== "Tab" || !shown) return;
    const stops = [...shown.querySelectorAll(FOCUSABLE)].filter((each) => each.checkVisibility());
    const edge = event.shiftKey ? stops[0] : stops.at(-1);
    if (shown.contains(document.activeElement) && document.activeElement !== edge) return;
    event.preventDefault();
    (event.shiftKey ? stops.at(-1) : stops[0]).focus();
  }

  for (const holder of holders) new MutationObserver(look).observe(holder, { childList: true, subtree: true });
  document.addEventListener("keydown", keepInside);
};

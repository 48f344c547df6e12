// The list of conversations: what its buttons do, names typed into it, the arrow keys. `page.js` calls it once and hands
// it what both need; which conversation this tab shows is the page's business.
const qwenHistory = ({ $, click, submit, wordOf, open, openNew, isShown, tellOthers, transfer }) => {
  const isNarrow = () => matchMedia("(max-width: 899px)").matches;
  const relist = () => $(".entry-name") || click("#do-list"); // a name that is being typed would be lost
  const toggle = () => click("#history .toggle-button");
  const isCovering = () => Boolean($("#history.open")) && isNarrow();

  // Other tabs are told when the changed list is here: the server has it by then.
  let isChanging = false;
  function hasListed() {
    if (!isChanging || $("#history-list .progress-text")) return; // Gradio waits for it
    isChanging = false;
    tellOthers();
  }
  function change(action, id = "", text = "") {
    submit("#do-history", { history_action: action, target_id: id, target_text: text }).then(() => (isChanging = true));
    if (action === "erase" || (action === "trash" && isShown(id))) openNew();
  }
  function showPlace(place) {
    document.body.dataset.place = place;
    document.body.dataset.asks = "no";
    submit("#do-list", { place, pages: "0" });
  }
  function clicked(event) {
    const tool = event.target.closest(".tool, .tool-restore");
    const entry = event.target.closest(".entry-open");
    const button = event.target.closest("button")?.id;
    transfer.click(button);
    if (tool) {
      const action = tool.matches(".tool") ? [...tool.classList].find((name) => name.startsWith("tool-")).slice(5) : "restore";
      if (action === "rename") rename(tool.closest(".entry"));
      else change(action, wordOf(tool, "id-"));
    } else if (entry && document.body.dataset.place !== "trash") open(wordOf(entry, "id-"));
    else if (button === "new") openNew();
    else if (button === "to-trash") showPlace("trash");
    else if (button === "from-trash") showPlace("");
    else if (button === "empty-trash" || button === "erase") {
      document.body.dataset.asks = button === "erase" ? "erase" : "empty";
    } else if (button === "really") {
      change(document.body.dataset.asks);
      document.body.dataset.asks = "no";
    } else if (event.target.closest(".history-more")) {
      const pages = Number($("#box-pages textarea").value || 0) + 1;
      submit("#do-list", { pages: String(pages) });
    }
  }
  function rename(entry) {
    const title = entry.querySelector(".entry-title");
    const opener = entry.querySelector(".entry-open");
    const name = Object.assign(document.createElement("input"), { value: title.textContent, className: "entry-name" });
    name.setAttribute("aria-label", $("#history .tool-rename").title);
    let isOver = false;
    const end = (isKept) => {
      if (isOver) return;
      isOver = true;
      name.replaceWith(opener);
      if (isKept && name.value.trim() !== title.textContent.trim()) change("rename", wordOf(entry, "id-"), name.value);
      else relist();
    };
    name.addEventListener("keydown", (event) => {
      if (event.isComposing || event.keyCode === 229) return;
      if (event.key === "Enter") end(true);
      if (event.key === "Escape") end(false);
    });
    name.addEventListener("blur", () => end(true));
    opener.replaceWith(name); // inside the button a click or a space would open the conversation
    name.focus();
    name.select();
  }
  // The list can be walked with the arrow keys.
  function walk(event) {
    const entries = [...document.querySelectorAll("#history .entry-open")];
    const at = entries.indexOf(document.activeElement);
    const next = event.key === "ArrowDown" ? entries[at + 1] : event.key === "ArrowUp" ? entries[at - 1] : null;
    if (at < 0 || !next) return;
    event.preventDefault();
    next.focus();
  }

  function toSearch() {
    if (!$("#history.open")) toggle();
    $("#history-search :is(textarea, input)").focus();
  }
  // Where it covers the page.
  function uncover() {
    if (isCovering()) toggle();
  }
  function begin(searchSoon) {
    $("#history")?.addEventListener("keydown", walk); // the list may not be mounted yet
    $("#history-search")?.addEventListener("input", searchSoon);
    new MutationObserver(hasListed).observe($("#history") || document.body, { childList: true, subtree: true });
    uncover();
  }
  return { relist, clicked, toSearch, isCovering, uncover, begin };
};

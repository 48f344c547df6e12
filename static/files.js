// Files for the next question: chosen, pasted or dropped, each sent by a request of its own to the one route that takes
// them. The server keeps them in a draft whose id this tab makes up; what the composer shows of it comes from there.
// `page.js` calls it once and hands it what both need.
const qwenFiles = ({ $, submit, fillBox, pause, read, write, newId, owner, measureSoon, attachAgain }) => {
  const DRAFT_ID = "qwen-chat.files";
  const MAX_BYTES = 16 * 1024 * 1024; // as the server has it; beyond that it is told the size alone
  const PATIENCE_MS = 5000;
  const MOST_TYPED = 20000; // characters; of some scripts few more fit into a message
  let onTheirWay = Promise.resolve();
  let numOnTheirWay = 0;

  function draftId() {
    const kept = read("sessionStorage", DRAFT_ID);
    if (/^[0-9a-f]{32}$/.test(kept)) return kept;
    write("sessionStorage", DRAFT_ID, newId());
    return read("sessionStorage", DRAFT_ID);
  }
  const numShown = () => document.querySelectorAll("#files .file-chip").length;
  const isChatting = () => document.body.dataset.mode !== "text";

  // What the composer shows is what will be sent: their number goes along with the draft's id.
  function look() {
    fillBox($("#box-draft textarea"), `${draftId()} ${numShown()}`);
    document.body.dataset.files = numShown() ? "yes" : "no";
    measureSoon();
  }
  const change = (action = "", target = "") => submit("#do-files", { files_action: action, files_target: target });

  // Returns how many files the draft has now.
  async function send(file) {
    const body = file.size > MAX_BYTES ? "" : await file.arrayBuffer(); // a folder cannot be read, and is told as lost
    const headers = {
      "content-type": "application/octet-stream",
      "x-chat-owner": owner(),
      "x-chat-draft": draftId(),
      "x-file-name": encodeURIComponent(file.name),
      "x-file-bytes": String(file.size),
    };
    for (let tries = 0; ; tries++) {
      const answer = await fetch("attach", { method: "POST", headers, body });
      if (answer.ok) return (await answer.json()).files;
      if (tries === 3 || ![403, 429, 503].includes(answer.status)) throw new Error(answer.status);
      if (answer.status === 403 && !tries) attachAgain(); // this tab has been forgotten
      await pause(1500);
    }
  }
  async function sendAll(files) {
    const lost = [];
    let expected = numShown();
    for (const file of files) {
      try {
        expected = await send(file);
      } catch {
        lost.push(file.name.replaceAll("\n", " "));
      }
      $("#files-coming").firstElementChild?.remove();
    }
    document.body.dataset.stale = "no";
    await change(lost.length ? "lost" : "", lost.join("\n"));
    for (let waited = 0; numShown() !== expected && waited < PATIENCE_MS; waited += 20) await pause(20);
    numOnTheirWay -= files.length;
    document.body.dataset.coming = numOnTheirWay ? "yes" : "no";
  }
  function take(list) {
    const files = [...list];
    if (!files.length || !isChatting()) return;
    numOnTheirWay += files.length;
    document.body.dataset.coming = "yes";
    for (const { name } of files) $("#files-coming").append(Object.assign(document.createElement("span"), { textContent: name }));
    onTheirWay = onTheirWay.then(() => sendAll(files));
    $("#box textarea").focus();
  }
  function choose() {
    const input = Object.assign(document.createElement("input"), { type: "file", multiple: true });
    input.addEventListener("change", () => take(input.files));
    input.click();
  }

  // Spreadsheets put a picture of what was copied beside its text: then the text is meant. A long one becomes a file.
  document.addEventListener("paste", (event) => {
    const { files, types } = event.clipboardData || {};
    const text = event.clipboardData?.getData("text/plain") || "";
    const isText = !files?.length || types.includes("text/html");
    if (event.target === $("#box textarea") && isText && isLong(text, event.target)) {
      event.preventDefault();
      take([new File([text], "pasted.txt")]);
      return;
    }
    if (!files?.length || types.includes("text/html")) return;
    if (event.target.matches?.("textarea, input") && !event.target.closest("#composer")) return;
    event.preventDefault();
    take(files);
  });
  function isLong(text, { value, selectionStart, selectionEnd }) {
    const length = value.length - (selectionEnd - selectionStart) + text.length;
    const isEditing = document.body.dataset.editing === "yes"; // an answer has no files
    return !isEditing && (text.length > MOST_TYPED || (length > MOST_TYPED && text.length > MOST_TYPED / 10));
  }
  const bringsFiles = (event) => isChatting() && event.dataTransfer?.types.includes("Files");
  let depth = 0; // every element that is entered and left on the way says so
  function over(step) {
    depth = step ? Math.max(0, depth + step) : 0;
    document.body.dataset.drop = depth ? "yes" : "no";
  }
  document.addEventListener("dragenter", (event) => bringsFiles(event) && over(1));
  document.addEventListener("dragleave", (event) => bringsFiles(event) && over(-1));
  document.addEventListener("dragover", (event) => bringsFiles(event) && event.preventDefault());
  document.addEventListener("drop", (event) => {
    if (!bringsFiles(event)) return;
    event.preventDefault();
    over(0);
    take(event.dataTransfer.files);
  });

  // The window with a file's text.
  const open = (target) => submit("#do-file", { file_target: target });
  const close = () => submit("#do-file", { file_target: "" });
  const idOf = (button) => [...button.classList].find((name) => /^file-[0-9a-f]{32}$/.test(name))?.slice(5);

  return {
    begin() {
      const coming = Object.assign(document.createElement("div"), { id: "files-coming" });
      coming.setAttribute("role", "status");
      $("#composer").prepend(coming);
      new MutationObserver(look).observe($("#files"), { childList: true, subtree: true });
      look();
    },
    change,
    forget: () => write("sessionStorage", DRAFT_ID, ""),
    close,
    open,
    any: () => document.body.dataset.files === "yes" || numOnTheirWay > 0,
    // Until everything that was added stands in the composer.
    async ready() {
      while (numOnTheirWay > 0) await onTheirWay;
    },
    click(event) {
      const button = event.target.closest("#attach, #files button, #file-sheet");
      if (button?.id === "attach") choose();
      else if (button?.id === "file-sheet") {
        if (!event.target.closest(".sheet") || event.target.closest(".sheet-close")) close();
      } else if (button?.matches(".file-open")) open(idOf(button));
      else if (button?.matches(".file-remove")) {
        change("remove", idOf(button));
        $("#box textarea").focus();
      }
    },
  };
};

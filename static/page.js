// What the page does in the browser: it knows which conversation this tab shows, sends with Enter, turns clicks on
// rendered messages into clicks on hidden buttons, and tells this browser's other tabs when a conversation changes.
// It asks nothing of any other host and keeps two ids and the unsent text, nothing else.
(() => {
  "use strict";
  const OWNER = "qwen-chat.owner";
  const CONVERSATION = "qwen-chat.conversation";
  const DRAFT = "qwen-chat.draft";
  const TEXT = "qwen-chat.text";
  const LANGUAGE = "qwen-chat-language";
  const LEFT = "left";
  const REFRESH_AFTER_MS = 20000;
  const $ = (selector) => document.querySelector(selector);

  // Storage may be switched off; then the ids last as long as the page.
  const memory = {};
  const read = (store, key) => {
    try {
      return window[store].getItem(key) || memory[key] || "";
    } catch {
      return memory[key] || "";
    }
  };
  const write = (store, key, value) => {
    memory[key] = value;
    try {
      window[store].setItem(key, value);
    } catch {
      // kept in memory
    }
  };
  const newId = () =>
    Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");

  const channel = "BroadcastChannel" in window ? new BroadcastChannel("qwen-chat") : null;
  const click = (selector) => $(selector)?.click();
  const composer = () => $("#box textarea");
  const isAnswering = () => document.body.dataset.answering === "yes";
  const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
  let hasChanged = false;

  // Values for the server go through hidden boxes, as if typed; Svelte takes them over with its next task.
  async function submit(button, values) {
    for (const [name, value] of Object.entries(values)) {
      const box = $(`#box-${name} textarea`);
      box.value = value;
      box.dispatchEvent(new Event("input", { bubbles: true }));
    }
    await pause(0);
    click(button);
  }

  function identity() {
    let owner = read("localStorage", OWNER);
    if (!/^[0-9a-f]{32}$/.test(owner)) {
      owner = newId();
      write("localStorage", OWNER, owner);
    }
    return { owner, conversation_id: read("sessionStorage", CONVERSATION) };
  }
  const attach = () => submit("#do-refresh", identity());

  // What stands in a message, as it was written.
  async function rawText(id) {
    await submit("#do-copy", { message_id: id, raw_text: "" });
    const box = $("#box-raw_text textarea");
    for (let waited = 0; !box.value && waited < 3000; waited += 20) await pause(20);
    return box.value;
  }
  async function copyAnswer(button, id) {
    const text = await rawText(id);
    if (text && (await toClipboard(text))) showDone(button);
  }
  function showDone(button) {
    button.classList.add("is-done");
    setTimeout(() => button.classList.remove("is-done"), 1600);
  }

  function fillBox(box, text) {
    box.value = text;
    box.dispatchEvent(new Event("input", { bubbles: true }));
  }

  // A message is edited in the composer; until it is sent or cancelled, a hidden box says which one it is. What stood in
  // the composer before comes back afterwards.
  let setAside = "";
  async function edit(id) {
    const text = await rawText(id);
    if (document.body.dataset.editing !== "yes") setAside = composer().value;
    fillBox($("#box-edited_id textarea"), id);
    fillBox(composer(), text);
    document.body.dataset.editing = "yes";
    files.change("edit", id);
    composer().focus();
  }
  function endEditing(rest = "") {
    fillBox($("#box-edited_id textarea"), "");
    document.body.dataset.editing = "no";
    files.change("cancel");
    fillBox(composer(), setAside + rest);
    typedSince = composer().value;
    setAside = "";
  }
  function cancelEditing() {
    if (document.body.dataset.editing !== "yes") return;
    endEditing();
  }

  async function toClipboard(text) {
    try {
      await systemWrite(text);
      return true;
    } catch {
      // No clipboard outside https and localhost: the old way.
      const area = Object.assign(document.createElement("textarea"), { value: text });
      document.body.append(area);
      area.select();
      const done = document.execCommand("copy");
      area.remove();
      return done;
    }
  }

  // The word joiners that protect formulas and tabs from Gradio are no part of what a user copies, by hand or with the
  // button of a code block.
  const systemWrite = navigator.clipboard?.writeText.bind(navigator.clipboard);
  if (systemWrite) navigator.clipboard.writeText = (text) => systemWrite(text.replaceAll("\u2060", ""));
  document.addEventListener("copy", (event) => {
    const text = String(document.getSelection() || "");
    if (!text.includes("\u2060") || event.target.closest?.("textarea, input")) return;
    event.clipboardData.setData("text/plain", text.replaceAll("\u2060", ""));
    event.preventDefault();
  });

  channel?.addEventListener("message", (event) => {
    if (event.data === LEFT) isLeaving = true;
    else if (event.data && event.data === read("sessionStorage", CONVERSATION)) attach();
    else history.relist();
  });

  // The keyboard. While an input method composes, Enter and Escape belong to it.
  document.addEventListener(
    "keydown",
    (event) => {
      const isComposing = event.isComposing || event.keyCode === 229;
      if (event.key === "Escape" && !isComposing && !event.target.closest?.(".entry-name")) {
        if ($("#keys .sheet")) click("#keys-close");
        else if ($("#receipt .sheet")) closeReceipt();
        else if ($("#file-sheet .sheet")) files.close();
        else if (transfer.close()) return;
        else if ($("#panel.open")) click("#panel .toggle-button");
        else if (history.isCovering()) history.uncover();
        else if (document.body.dataset.editing === "yes") cancelEditing();
        else if ($("#completion-facts .live")) click("#stop-draft");
        else if (isAnswering()) click("#stop");
      }
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && event.target.closest?.("#draft")) click("#continue");
      if (!isComposing && !event.altKey && shortcut(event)) {
        event.preventDefault();
        event.stopImmediatePropagation();
      }
      if (event.key !== "Enter" || event.target !== composer()) return;
      event.stopImmediatePropagation();
      if (isComposing || event.shiftKey || event.altKey) return;
      event.preventDefault();
      if (composer().value.trim() || files.any()) send();
    },
    true,
  );

  // Letters and signs are shortcuts only where nothing is being typed.
  function shortcut(event) {
    const types = event.target.closest?.("textarea, input, select, [contenteditable]");
    const isCommand = event.ctrlKey || event.metaKey;
    if (isCommand && event.shiftKey && event.code === "KeyO") open(NEW);
    else if (isCommand) return false;
    else if (event.key === "ArrowUp" && event.target === composer() && !composer().value) editLast();
    else if (event.key === "/" && !types) history.toSearch();
    else if (event.key === "?" && !types) click("#show-keys");
    else return false;
    return true;
  }
  function editLast() {
    const foot = [...document.querySelectorAll("#chatbot .question-foot")].at(-1);
    if (foot) edit(wordOf(foot, "id-"));
  }

  // The language chosen here goes before the browser's: for what Gradio says (see early.js) and, as a cookie, for
  // what the server says.
  function speak(language) {
    write("localStorage", LANGUAGE, language);
    document.cookie = `${LANGUAGE}=${language}; path=/; max-age=31536000; samesite=lax`;
    location.reload();
  }
  function lookAtLanguage() {
    const spoken = (navigator.language || "en").slice(0, 2);
    for (const name of ["en", "zh", "ja"]) $(`#speak-${name}`)?.setAttribute("aria-pressed", String(name === spoken));
  }

  // An answer that has ended is read out once, and told in the title of a tab that nobody looks at.
  const TOLD_CHARS = 600;
  const TURNING_MS = 1500; // turning to another conversation is no end of an answer
  let turnedAt = 0;
  let title = "";
  let feetBefore = null; // of the messages that were here when something was asked, until its answer is told
  const feet = () => [...document.querySelectorAll("#chatbot .foot")].map((foot) => foot.className);
  function tellEnd() {
    feetBefore = null;
    const parts = [...document.querySelectorAll("#chatbot .bot-row .prose")].filter((part) => !part.querySelector(".foot"));
    $("#told").textContent = (parts.at(-1)?.textContent || "").trim().slice(0, TOLD_CHARS);
    if (!document.hidden) return;
    title ||= document.title;
    document.title = `● ${title}`;
  }
  // A short answer is there at once: it is never seen being written.
  function tellWhole() {
    const newest = feet().at(-1);
    if (feetBefore && newest && !isAnswering() && !feetBefore.includes(newest) && !$("#chatbot .foot.live")) tellEnd();
  }
  function lookedAt() {
    if (title) document.title = title;
    title = "";
  }

  // A question typed before the page knows its conversation, or after the program was started anew, is sent as soon as
  // it does.
  let sendsWhenAttached = false;
  let recoveredAt = 0;
  // What is on its way to the server, until it is taken or refused, and what was typed meanwhile: the box is emptied when
  // it is taken.
  let sent = null;
  let typedSince = "";
  function lookAtSent() {
    if (sent === null || composer().value) return;
    const rest = typedSince.startsWith(sent) ? typedSince.slice(sent.length) : typedSince;
    if (rest.trim()) fillBox(composer(), rest);
    sent = null;
  }
  async function send() {
    await files.ready();
    if (document.body.dataset.attached === "yes") click("#send");
    else sendsWhenAttached = true;
  }
  function recover() {
    if ($("#notice .progress-text")) return; // Gradio waits for what will be said
    const wasSent = sent !== null;
    if ($("#notice .notice")) sent = null; // refused
    if (!$("#notice .is-no_conversation") || Date.now() - recoveredAt < 5000) return;
    recoveredAt = Date.now();
    sendsWhenAttached ||= wasSent;
    attachAgain();
  }

  // A base model begins in the mode that continues a text; the brand line says what kind of model there is.
  function setMode(mode) {
    document.body.dataset.mode = mode;
    for (const name of ["text", "chat"]) $(`#mode-${name}`).setAttribute("aria-pressed", String(name === mode));
  }
  function lookAtModel() {
    if (files.any()) files.change(); // how many tokens they take depends on the model
    if ($("#brand .is-base") && !document.body.dataset.mode) setMode("text");
  }
  function lookAtDraft() {
    $("#draft textarea").readOnly = Boolean($("#completion-facts .live"));
  }

  // Clicks on rendered messages. Sanitising leaves classes but no data attributes, so a class carries the id.
  document.addEventListener("click", (event) => {
    if (event.target.closest?.("#send, #clear, #undo, #do-act, .starter")) {
      hasChanged = true;
      followIfUnheard();
      feetBefore = feet();
      document.body.dataset.stale = "no";
      scrolling.stick(true);
      if (event.target.closest(".starter") && matchMedia("(hover: hover)").matches) composer().focus();
    }
    if (event.target.closest?.("#send")) {
      const text = composer().value;
      if (sent === null || !text.startsWith(sent)) [sent, typedSince] = [text, ""]; // or the last one is still on its way
    }
    if (event.target.closest?.("#to-end")) scrolling.toEnd();
    if (event.target.closest?.("#cancel-edit")) cancelEditing();
    if (event.target.closest?.("#continue, #model-switch, .receipt-reproduce")) setTimeout(followAgain, UNHEARD_MS);
    files.click(event);
    if (event.target.closest?.("#history, #trashed")) history.clicked(event);
    if (event.target.closest?.("#receipt")) inReceipt(event);
    if (event.target.closest?.("#keys") && !event.target.closest("dl")) inKeys(event);
    const language = event.target.closest?.('[id^="speak-"]');
    if (language) speak(language.id.slice("speak-".length));
    const mode = event.target.closest?.("#mode-text, #mode-chat");
    if (mode) setMode(mode.id.slice("mode-".length));
    const button = event.target.closest?.('#chatbot button[class*="act-"]');
    if (!button) return;
    const action = wordOf(button, "act-");
    const id = wordOf(button, "id-");
    if (action === "copy") copyAnswer(button, id);
    else if (action === "source") submit("#do-source", { message_id: id });
    else if (action === "edit") edit(id);
    else if (action === "receipt") submit("#do-receipt", { message_id: id });
    else if (action === "file") files.open(`${id} ${wordOf(button, "nth-")}`);
    else if (["again", "continue", "branch", "take-back", "redo", "keep", "penalty", "warmer"].includes(action)) act(action, id);
    else if (action === "back" || action === "next") act("choose", id);
    else if (action === "earlier") {
      scrolling.expectEarlier();
      click("#do-earlier");
    }
  });

  const wordOf = (element, beginning) =>
    ([...element.classList].find((name) => name.startsWith(beginning)) || beginning).slice(beginning.length);
  function act(action, id) {
    cancelEditing();
    submit("#do-act", { action, message_id: id });
  }

  // Which conversation this tab shows.
  const NEW = "new";
  function open(id) {
    cancelEditing();
    write("sessionStorage", CONVERSATION, id);
    document.body.dataset.attached = "no";
    turnedAt = Date.now();
    feetBefore = null;
    scrolling.stick(true);
    attach();
    history.uncover();
    if (matchMedia("(hover: hover)").matches) composer().focus();
  }
  const transfer = qwenTransfer({ $, submit, fillBox, pause, open, relist: () => click("#do-list") });
  const history = qwenHistory({
    $, click, submit, wordOf, open, transfer,
    openNew: () => open(NEW),
    isShown: (id) => id === read("sessionStorage", CONVERSATION),
    tellOthers: () => channel?.postMessage("list"),
  });

  // The dialog with an answer's receipt.
  function closeReceipt() {
    submit("#do-receipt", { message_id: "" });
  }
  function inReceipt(event) {
    const button = event.target.closest("button");
    if (!event.target.closest(".sheet") || button?.matches(".sheet-close")) closeReceipt();
    else if (button?.matches(".receipt-reproduce")) submit("#do-reproduce", { message_id: wordOf(button, "id-") });
    else if (button?.matches(".receipt-copy")) {
      toClipboard(button.parentElement.querySelector("pre").textContent).then((isDone) => isDone && showDone(button));
    }
  }

  function inKeys(event) {
    if (!event.target.closest(".sheet") || event.target.closest(".sheet-close")) click("#keys-close");
  }

  // What the question in the box would cost, and what is found, a moment after the last key.
  function afterAPause(task, pauseMs) {
    let waiting = 0;
    return () => {
      clearTimeout(waiting);
      waiting = setTimeout(task, pauseMs);
    };
  }
  const measureSoon = afterAPause(() => click("#do-measure"), 350);
  const owner = () => identity().owner;
  const scrolling = qwenScrolling({ $ });
  const files = qwenFiles({ $, submit, fillBox, pause, read, write, newId, owner, measureSoon, attachAgain });

  // What is shown decides what can be done: one look at the messages after each change of them.
  const SETTLED_MS = 120;
  const settleSoon = afterAPause(() => {
    history.relist();
    tellWhole();
  }, SETTLED_MS);
  let seen = "";
  function look(hasLooked = false) {
    const chatbot = $("#chatbot");
    const answering = $("#chatbot .foot.live") ? "yes" : "no";
    const filled = $("#chatbot .message-row") ? "yes" : "no";
    const { dataset } = document.body;
    if (dataset.answering !== answering) {
      // While Gradio swaps the parts of a message, the live line is missing for a moment.
      if (answering === "no" && dataset.answering === "yes" && !hasLooked) {
        setTimeout(() => look(true), SETTLED_MS);
      } else {
        if (answering === "no") {
          dataset.stale = "yes"; // what was refused during that answer
          if (dataset.answering === "yes" && Date.now() - turnedAt > TURNING_MS) tellEnd();
        }
        dataset.answering = answering;
      }
    }
    if (dataset.filled !== filled) dataset.filled = filled;
    if (answering === "yes") followIfUnheard();
    lookAtSent();
    if (dataset.editing === "yes" && !$("#box-edited_id textarea").value) endEditing(composer().value);
    scrolling.look();
    const rows = document.querySelectorAll("#chatbot .message-row").length;
    const newest = `${rows} ${feet().at(-1)}`;
    if (newest !== seen) {
      seen = newest;
      settleSoon();
      if (hasChanged) channel?.postMessage(read("sessionStorage", CONVERSATION));
      hasChanged = false;
    }
    // Gradio puts a nameless button inside a button.
    for (const arrow of chatbot.querySelectorAll(".thought-group .arrow:not([inert])")) arrow.inert = true;
  }

  // Gradio's server closes the stream of what it tells a tab when nothing is left to tell. What the tab asks to follow in
  // just that moment may believe in the closed stream, and is heard only when something else is followed.
  const UNHEARD_MS = 4000;
  const followAgain = () => click("#do-follow");
  const followIfUnheard = afterAPause(() => (hasChanged || isAnswering()) && followAgain(), UNHEARD_MS);

  // Gradio names every part of a message by its source: Markdown or HTML, read aloud instead of the text.
  function unname() {
    for (const part of document.querySelectorAll("#chatbot [data-testid][aria-label]")) part.removeAttribute("aria-label");
  }

  function keep() {
    const [id, silentTab] = $("#attached").textContent.trim().split(" ");
    if (!/^[0-9a-f]{32}$/.test(id)) return;
    const isListening = stream && stream.readyState !== EventSource.CLOSED;
    if (silentTab && !isListening && performance.now() > GRADIO_LISTENS_AFTER_MS) listen(silentTab);
    write("sessionStorage", CONVERSATION, id);
    document.body.dataset.attached = "yes";
    history.relist();
    files.change(document.body.dataset.editing === "yes" ? "" : "cancel"); // those of a tab that was loaded again
    setTimeout(followAgain, UNHEARD_MS);
    if (sendsWhenAttached) click("#send");
    sendsWhenAttached = false;
  }

  // By a stream that stays open the server knows that this tab is here. Gradio opens it once: after a sleep, or when the
  // program was started anew, this one takes its place, and comes back by itself.
  const GRADIO_LISTENS_AFTER_MS = 10000;
  const LISTENS_AGAIN_MS = 5000;
  let stream = null;
  function listen(tab) {
    stream = new EventSource(`gradio_api/heartbeat/${encodeURIComponent(tab)}`);
    stream.addEventListener("open", attach); // what the server knew of this tab ended with the stream before
    stream.addEventListener("error", () => {
      if (stream.readyState === EventSource.CLOSED) setTimeout(attach, LISTENS_AGAIN_MS); // it was refused
    });
  }

  function attachAgain() {
    document.body.dataset.attached = "no";
    attachUntilAnswered();
  }
  async function attachUntilAnswered() {
    while (document.body.dataset.attached !== "yes") {
      attach();
      await pause(2000);
    }
  }

  function begin() {
    const chatbot = $("#chatbot");
    if (!chatbot || !composer() || !$("#do-refresh") || !$("#attached") || !$("#notice")) {
      setTimeout(begin, 20);
      return;
    }
    new MutationObserver(() => look()).observe(chatbot, { childList: true, subtree: true });
    new MutationObserver(unname).observe(chatbot, { childList: true, subtree: true, attributeFilter: ["aria-label"] });
    unname();
    new MutationObserver(keep).observe($("#attached"), { childList: true, subtree: true, characterData: true });
    new MutationObserver(recover).observe($("#notice"), { childList: true, subtree: true });
    qwenSheets([$("#receipt"), $("#keys"), $("#file-sheet")]);
    new MutationObserver(lookAtModel).observe($("#brand"), { childList: true, subtree: true });
    new MutationObserver(lookAtDraft).observe($("#completion-facts"), { childList: true, subtree: true });
    $("#chatbot [role=log]")?.setAttribute("aria-live", "off"); // it would be read with every token
    document.body.append(Object.assign(document.createElement("div"), { id: "told", className: "sr", role: "status" }));
    qwenRendering({ $, toClipboard, showDone, wordOf }).watch(chatbot);
    files.begin();
    look();
    lookAtModel();
    lookAtLanguage();
    attachUntilAnswered();
    const box = composer();
    box.addEventListener("input", measureSoon);
    box.addEventListener("input", (event) => {
      if (event.isTrusted) typedSince = box.value;
      isLeaving &&= !event.isTrusted;
    });
    history.begin(afterAPause(history.relist, 150));
    box.setAttribute("enterkeyhint", "send");
    for (const [key, unsent] of Object.entries(unsentBoxes())) {
      const text = read("sessionStorage", key);
      if (text && !unsent.value) fillBox(unsent, text);
    }
    if (matchMedia("(hover: hover)").matches) box.focus();
    for (const panel of [$("#panel"), $("#history")]) nameToggle(panel);
  }
  function nameToggle(panel) {
    const toggle = panel?.querySelector(".toggle-button");
    const name = panel?.querySelector(".panel-title")?.textContent.trim();
    if (!toggle || !name) return;
    const sayState = () => toggle.setAttribute("aria-expanded", String(panel.classList.contains("open")));
    toggle.title = name;
    toggle.setAttribute("aria-label", name);
    new MutationObserver(sayState).observe(panel, { attributes: true, attributeFilter: ["class"] });
    sayState();
  }
  // What was typed and not sent outlives a reload. A phone that ends a hidden tab says nothing before it does.
  let isLeaving = false;
  document.addEventListener("submit", (event) => {
    if (!event.target.matches?.('form[action="/logout"]')) return;
    isLeaving = true; // who comes next may be somebody else
    channel?.postMessage(LEFT);
  });
  const unsentBoxes = () => ({ [DRAFT]: composer(), [TEXT]: $("#draft textarea") });
  function saveUnsent() {
    if (!composer()) return;
    if (isLeaving) {
      for (const key of [DRAFT, TEXT, CONVERSATION]) write("sessionStorage", key, "");
      files.forget();
      return;
    }
    for (const [key, box] of Object.entries(unsentBoxes())) write("sessionStorage", key, box?.value || "");
    if (document.body.dataset.editing === "yes") write("sessionStorage", DRAFT, setAside);
  }
  addEventListener("pagehide", saveUnsent);

  // A tab that slept (a phone, a laptop) may have lost its place; looking again is cheap.
  let hiddenAt = 0;
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) {
      hiddenAt = Date.now();
      saveUnsent();
    } else lookedAt();
    if (!document.hidden && hiddenAt && Date.now() - hiddenAt > REFRESH_AFTER_MS) attach();
  });
  addEventListener("pageshow", (event) => event.persisted && attach());

  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", begin);
  else begin();
})();

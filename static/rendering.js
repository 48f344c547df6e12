// What Gradio leaves undone in rendered messages: names, buttons and colours of code blocks, the direction of lists and
// tables, footnotes. Gradio replaces a whole block whenever its text grows, so everything is done to what was added,
// before it is painted, and nothing is put beside Gradio's own nodes, only into code blocks.
const qwenRendering = ({ $, toClipboard, showDone, wordOf }) => {
  const SETTINGS = /* settings */ {};
  const MARK = /\u2060/g;
  const WRAPS = "qwen-chat.wraps";
  const MAX_CHARS = 60000; // longer code stays in one colour
  const PATIENCE_MS = 5000;
  const REST_MS = 200;
  const MAX_KNOWN = 60;
  const RIGHT_TO_LEFT = /[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]/;
  const names = SETTINGS.names[(navigator.language || "en").slice(0, 2)] || SETTINGS.names.en;

  // The highlighter works in a thread of its own: three hundred lines take it a tenth of a second, and there is code on
  // which it never ends. Its colours are laid over the text (CSS custom highlights), which stays the one piece that
  // Gradio made; thousands of elements in its place would cost the page another tenth at each update. What was found is
  // kept by text, and the last beginning of a block that grows lends it its colours until its own are there.
  const known = new Map();
  const waiting = [];
  const layers = new Map();
  const painted = new Map();
  let worker = null;
  let asked = null;
  let patience = 0;
  let rest = 0;
  let grown = { language: "", text: "", colours: null };

  // The parser ends every block with a line end, which would belong to no beginning of a longer one.
  const textOf = (code) => code.textContent.replace(/\n$/, "");
  const keyOf = ({ language, text }) => `${language}\n${text}`;
  const blockOf = (code) => ({ code, language: languageOf(code), text: textOf(code) });

  function highlight(code) {
    const block = blockOf(code);
    if (!CSS.highlights || !block.language || block.text.length > MAX_CHARS) return;
    const colours = known.get(keyOf(block));
    const grows = grown.colours && block.language === grown.language && block.text.startsWith(grown.text);
    if (colours !== undefined) paint(block, colours);
    else if (!grows) inSight.observe(code);
    else {
      paint(block, grown.colours);
      ask({ ...block, grows });
    }
  }
  function paint({ code, text }, colours) {
    const node = code.firstChild;
    if (!colours || !code.isConnected || textOf(code) !== text || node.length < text.length) return;
    for (const one of painted.keys()) if (one === code || !one.isConnected) erase(one);
    const ranges = [];
    for (const [name, edges] of Object.entries(colours)) {
      if (!layers.has(name)) CSS.highlights.set(name, layers.set(name, new Highlight()).get(name));
      const layer = layers.get(name);
      for (let at = 0; at < edges.length; at += 2) {
        const range = new StaticRange({
          startContainer: node, startOffset: edges[at], endContainer: node, endOffset: edges[at + 1],
        });
        layer.add(range);
        ranges.push([layer, range]);
      }
    }
    painted.set(code, ranges);
  }
  function erase(code) {
    for (const [layer, range] of painted.get(code)) layer.delete(range);
    painted.delete(code);
  }
  function ask(block) {
    if (block) waiting.push(block);
    if (asked) return;
    do asked = waiting.pop(); // the newest first: older ones may be gone already
    while (asked && !asked.code.isConnected);
    if (!asked) return;
    if (worker) wait();
    else worker = start();
    worker.postMessage({ language: asked.language, text: asked.text });
  }
  function wait() {
    patience = setTimeout(() => answer(null, true), PATIENCE_MS);
  }
  function start() {
    const made = new Worker(new URL(SETTINGS.highlighter, document.baseURI));
    made.onmessage = ({ data }) => made === worker && (data.isReady ? wait() : answer(data.colours, false));
    made.onerror = () => made === worker && answer(null, true);
    return made;
  }
  function answer(colours, isStuck) {
    clearTimeout(patience);
    if (isStuck) {
      worker.terminate();
      worker = null;
    }
    const block = asked;
    asked = null;
    if (known.size >= MAX_KNOWN) known.delete(known.keys().next().value);
    known.set(keyOf(block), colours);
    if (colours) grown = { language: block.language, text: block.text, colours };
    // What grows gets them with its next growth, or when it rests.
    clearTimeout(rest);
    if (block.grows) rest = setTimeout(() => paint(block, colours), REST_MS);
    else paint(block, colours);
    ask();
  }

  // The rest waits until it is about to be looked at.
  const inSight = new IntersectionObserver((seen) => {
    for (const { target, isIntersecting } of seen) {
      if (!isIntersecting) continue;
      inSight.unobserve(target);
      ask(blockOf(target));
    }
  }, { rootMargin: "800px 0px" });

  // What is too wide for its place scrolls in itself, which has to be possible with the keyboard.
  const widths = new ResizeObserver((changed) => {
    for (const { target } of changed) {
      const isWide = target.scrollWidth > target.clientWidth + 1;
      target.classList.toggle("is-wide", isWide);
      if (isWide) target.tabIndex = 0;
      else target.removeAttribute("tabindex");
    }
  });
  const watchWidth = (one) => one && widths.observe(one);

  // The bar above a code block. How lines are wrapped is one wish for all of them, since a block that is being written
  // is another element ten times a second.
  function labelOf(code) {
    return wordOf(code, "language-").replace(MARK, "");
  }
  const languageOf = (code) => labelOf(code).toLowerCase().split(/[{}:;,()=]/).find((part) => part) || "";
  function button(className, name) {
    const made = Object.assign(document.createElement("button"), { type: "button", className, title: name });
    made.append(Object.assign(document.createElement("span"), { className: "sr", textContent: name }));
    return made;
  }
  function dress(block) {
    const code = block.querySelector("pre > code");
    if (!code || block.querySelector(".code-head")) return;
    const head = Object.assign(document.createElement("div"), { className: "code-head" });
    const label = document.createElement("span");
    label.className = "code-language";
    label.textContent = labelOf(code) || names.code;
    const wrap = button("code-wrap", names.wrap);
    wrap.setAttribute("aria-pressed", String(document.body.dataset.wraps === "yes"));
    head.append(label, wrap, button("code-copy", names.copy));
    block.prepend(head);
    highlight(code);
  }
  function setWrapping(wraps) {
    document.body.dataset.wraps = wraps ? "yes" : "no";
    for (const one of document.querySelectorAll(".code-wrap")) one.setAttribute("aria-pressed", String(wraps));
    try {
      localStorage.setItem(WRAPS, document.body.dataset.wraps);
    } catch {
      // as long as the page lasts
    }
  }
  async function copy(pressed) {
    const code = pressed.closest(".code_wrap").querySelector("pre > code");
    if (await toClipboard(textOf(code).replace(MARK, ""))) showDone(pressed);
  }

  // A list or a table of a right-to-left language begins on the right; paragraphs see to that themselves, by CSS.
  function direct(added) {
    if (!RIGHT_TO_LEFT.test(added.textContent)) return;
    for (const one of [added, ...added.querySelectorAll("ul, ol, table, blockquote")]) {
      if (one.matches("ul, ol, table, blockquote")) one.dir = "auto";
    }
  }
  const within = (added, selector) => [...(added.matches(selector) ? [added] : []), ...added.querySelectorAll(selector)];
  function look(added) {
    if (!(added instanceof Element) || added.closest(".code-head, code")) return;
    for (const block of within(added, ".code_wrap")) dress(block);
    for (const drawing of within(added, ".mermaid, .mermaid *")) guardDiagram(drawing);
    // Gradio's sanitising leaves classes, but nothing that says more.
    for (const turn of within(added, ".act-source")) turn.setAttribute("aria-pressed", String(turn.matches(".is-on")));
    for (const back of within(added, ".fn-back")) back.setAttribute("aria-label", names.back);
    for (const wide of within(added, "pre, table, .katex-display, .mermaid")) watchWidth(wide);
    for (const formula of within(added, ".katex")) watchWidth(formula.closest("p, li, h1, h2, h3, h4, h5, h6"));
    direct(added);
  }

  // A diagram that cannot be drawn stays its source, with a word about it; mermaid would put a picture of a bomb there.
  const sources = new WeakMap();
  function guardDiagram(added) {
    const diagram = added.closest(".mermaid");
    if (!sources.has(diagram)) {
      sources.set(diagram, diagram.textContent);
      diagram.classList.toggle("is-dark", document.body.classList.contains("dark"));
    }
    if (!diagram.querySelector(".error-icon") || diagram.matches(".is-source")) return;
    diagram.classList.add("is-source");
    setTimeout(() => { // mermaid has not finished yet
      const note = Object.assign(document.createElement("p"), { className: "diagram-note", textContent: names.diagram });
      diagram.replaceChildren(note, sources.get(diagram).replace(MARK, ""));
    }, 0);
  }

  // Footnotes are found within their message: other messages have the same numbers.
  function followNote(link) {
    const number = link.getAttribute("href").slice("#fn-".length);
    const message = link.closest(".prose");
    const notes = message.querySelectorAll(".footnotes + ol > li");
    const target = link.matches(".fn-back") ? message.querySelector(`.fn-ref a[href="#fn-${number}"]`) : notes[number - 1];
    if (!target) return;
    target.tabIndex = 0;
    target.scrollIntoView({ block: "nearest" });
    target.focus();
  }

  // An answer that is turned into its source and back is another element; the keyboard stays at its button.
  let turned = "";
  function keepFocus() {
    if (!turned || document.activeElement !== document.body) return;
    $(`#chatbot .act-source.id-${turned}`)?.focus();
  }

  document.addEventListener("click", (event) => {
    const pressed = event.target.closest?.(".code-wrap, .code-copy, .act-source");
    const note = event.target.closest?.('#chatbot a[href^="#fn-"]');
    if (event.isTrusted) turned = pressed?.matches(".act-source") ? wordOf(pressed, "id-") : "";
    if (note) {
      event.preventDefault();
      followNote(note);
    }
    if (pressed?.matches(".code-wrap")) setWrapping(document.body.dataset.wraps !== "yes");
    if (pressed?.matches(".code-copy")) copy(pressed);
  });

  return {
    watch(root) {
      try {
        document.body.dataset.wraps = localStorage.getItem(WRAPS) || "no";
      } catch {
        document.body.dataset.wraps = "no";
      }
      new MutationObserver((changes) => {
        for (const { addedNodes } of changes) addedNodes.forEach(look);
        keepFocus();
      }).observe(root, { childList: true, subtree: true });
      look(root);
    },
  };
};

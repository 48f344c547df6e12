// The language that was chosen on the page, before Gradio asks the browser for its own.
(() => {
  try {
    const language = { en: "en", zh: "zh-CN", ja: "ja" }[localStorage.getItem("qwen-chat-language")];
    if (!language) return;
    Object.defineProperty(navigator, "language", { get: () => language });
    Object.defineProperty(navigator, "languages", { get: () => [language] });
  } catch {
    // no storage, no choice
  }
})();


// What `static/rendering.js` asks of highlight.js, in a thread of its own: {language, text} -> {html}, null if the language is
// not known. The names are those that models give to code blocks beside the ones highlight.js has.
hljs.configure({ throwUnescapedHTML: true });
for (const [languageName, aliases] of Object.entries({
  bash: "fish ksh shellscript",
  cpp: "arduino cu cuda ino",
  csharp: "c-sharp dotnet",
  ini: "conf",
  javascript: "ecmascript es6 javascriptreact node nodejs",
  json: "geojson ipynb jsonl jsonlines ndjson",
  julia: "jl",
  latex: "katex",
  matlab: "octave",
  objectivec: "objective-c",
  python: "ipython jupyter py2 py3 pyi python2 python3 sage",
  scss: "sass stylus",
  shell: "shell-session",
  sql: "hive mysql pgsql plpgsql plsql postgres postgresql psql sqlite sqlite3 tsql",
  typescript: "typescriptreact",
  xml: "markup mathml svelte vue",
})) {
  hljs.registerAliases(aliases.split(" "), { languageName });
}
addEventListener("message", ({ data: { language, text } }) => {
  let html = null;
  try {
    if (hljs.getLanguage(language)) html = hljs.highlight(text, { language, ignoreIllegals: true }).value;
  } catch {
    // shown without colours
  }
  postMessage({ html });
});

// Where this server is: its address as the browser sees it, also where a proxy shows it at a path of its own.

export const HTTP = new URL("..", import.meta.url).href.replace(/\/$/, "");
export const WS = HTTP.replace(/^http/, "ws");

// Where this server is, also where a proxy shows it at a path of its own.

export const http = new URL("..", import.meta.url).href.replace(/\/$/, "");
export const ws = http.replace(/^http/, "ws");

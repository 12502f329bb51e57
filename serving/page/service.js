// Requests to the service. An answer that is an error is thrown, with the service's words.

import {words} from "./words.js";

const KEY = "lsnet-api-key";

export class Refused extends Error {
  constructor(message, status, results) {
    super(message);
    this.status = status;
    this.results = results;
  }
}

export const useKey = (key) => sessionStorage.setItem(KEY, key);

export const ask = async (path, {method = "GET", files = null} = {}) => {
  const headers = sessionStorage.getItem(KEY) ? {authorization: `Bearer ${sessionStorage.getItem(KEY)}`} : {};
  let body;
  if (files) {
    body = new FormData();
    for (const file of files) body.append("files", file, file.name);
  }
  let response;
  try {
    response = await fetch(path, {method, headers, body});
  } catch {
    throw new Refused(words.lost, 0);
  }
  const answer = await response.json().catch(() => ({error: `${response.status}`}));
  if (!response.ok) throw new Refused(answer.error, response.status, answer.results);
  return answer;
};

// The same, patiently: a full queue is asked again.
export const askPatiently = async (path, options) => {
  for (let wait = 500; ; wait = Math.min(2 * wait, 8000)) {
    try {
      return await ask(path, options);
    } catch (error) {
      if (error.status !== 429) throw error;
      await new Promise((resolve) => setTimeout(resolve, wait));
    }
  }
};

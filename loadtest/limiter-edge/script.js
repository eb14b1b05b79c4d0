// At least twice the limit of 50 a second. A fixed window admits exactly its limit, so a
// run of n seconds, which touches at most n + 2 windows, admits between (n - 2) and
// (n + 2) times 50. Refusals carry Retry-After and are no failures.
import http from 'k6/http';
import { check } from 'k6';
import { Counter } from 'k6/metrics';
import { gateway, seconds, steady } from '../k6/profile.js';

const limit = 50;
const admitted = new Counter('admitted');
const refused = new Counter('refused');
const either = http.expectedStatuses(200, 429);

export const options = steady({
  admitted: [`count<=${limit * (seconds + 2)}`, `count>=${limit * Math.max(seconds - 2, 1)}`],
  refused: ['count>0'],
});

export default function () {
  const r = http.get(`${gateway}/limited/bytes/1024`, { responseCallback: either });
  (r.status === 200 ? admitted : refused).add(1);
  check(r, {
    'admitted or refused': (r) => r.status === 200 || r.status === 429,
    'the limit is told': (r) => r.headers['X-Ratelimit-Limit-Second'] === `${limit}`,
    'refusals say when to come back': (r) => r.status === 200 || Number(r.headers['Retry-After']) >= 1,
    'an answer is whole': (r) => r.status !== 200 || Number(r.headers['Content-Length']) === 1024,
  });
}

// Each iteration makes one request of every kind and knows every answer.
import http from 'k6/http';
import { check } from 'k6';
import { sha256 } from 'k6/crypto';
import { gateway, steady } from '../k6/profile.js';

const kib = 'c52da3e1169c84258b1126207c45426f115d5bb62243ceb38f50176331cdc8d6';
const refused = http.expectedStatuses(401);

export const options = steady();

export default function () {
  const whole = { responseType: 'binary' };
  check(http.get(`${gateway}/bytes/1024`, whole), {
    'plain: 200': (r) => r.status === 200,
    'plain: digest': (r) => sha256(r.body, 'hex') === kib,
  });
  check(http.get(`${gateway}/keyed/bytes/1024`, Object.assign({ headers: { apikey: 'alice-key' } }, whole)), {
    'key: 200': (r) => r.status === 200,
    'key: digest': (r) => sha256(r.body, 'hex') === kib,
  });
  check(http.get(`${gateway}/keyed/bytes/1024`, { responseCallback: refused }), {
    'no key: 401': (r) => r.status === 401,
    'no key: says so': (r) => r.body.includes('No API key found'),
  });
  check(http.get(`${gateway}/cacheable/x`, whole), {
    'cache: 200': (r) => r.status === 200,
    'cache: hit': (r) => r.headers['X-Cache-Status'] === 'Hit',
    'cache: digest': (r) => sha256(r.body, 'hex') === kib,
  });
  check(http.post(`${gateway}/digest`, 'abc'), {
    'upload: digest': (r) => r.body === '3 ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\n',
  });
}

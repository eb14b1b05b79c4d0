// Each iteration sends 1 MiB and has the service say what arrived, and fetches 1 MiB
// and 64 KiB.
import http from 'k6/http';
import { check } from 'k6';
import { sha256 } from 'k6/crypto';
import { gateway, steady } from '../k6/profile.js';

const body = '0123456789abcdefghijklmnopqrstuvwxyz'.repeat(29128).slice(0, 1 << 20);
const digest = sha256(body, 'hex');

export const options = steady();

export default function () {
  check(http.post(`${gateway}/digest`, body, { headers: { 'Content-Type': 'application/octet-stream' } }), {
    'up: 200': (r) => r.status === 200,
    'up: every byte': (r) => r.body === `${1 << 20} ${digest}\n`,
  });
  check(http.get(`${gateway}/bytes/1048576`, { responseType: 'binary' }), {
    'down 1 MiB: every byte': (r) => sha256(r.body, 'hex') === '8ffdf7e6cfde155ab118e1f70435db9efd0e96745e674854895edd173fc591ca',
  });
  check(http.get(`${gateway}/bytes/65536`, { responseType: 'binary' }), {
    'down 64 KiB: every byte': (r) => sha256(r.body, 'hex') === 'a6a98d7f309f68d83fe9b3107daca4afa067687e1dfdcf00e131fefe020e5659',
  });
}

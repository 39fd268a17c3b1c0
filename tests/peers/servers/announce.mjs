// Loaded before a server that takes any free port: says which one it got, as the address that its clients want.
import { Server } from 'node:net';

const listen = Server.prototype.listen;
Server.prototype.listen = function (...args) {
    this.once('listening', () => console.error(`at http://127.0.0.1:${this.address().port}/mcp`));
    return listen.apply(this, args);
};

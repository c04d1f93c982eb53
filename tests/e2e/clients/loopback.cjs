// Preloaded by `node --require`: a server that would listen on every interface listens on loopback, and says where.
const net = require("node:net");

const { listen } = net.Server.prototype;

net.Server.prototype.listen = function (port, ...rest) {
  this.once("listening", () => console.log(`port ${this.address().port}`));
  return listen.call(this, { port: Number(port), host: "127.0.0.1" }, rest.find((each) => typeof each === "function"));
};

//! Sessions in services of tower and axum: the layer beside other layers, on connections, and the extractors.

mod connections;
mod extractors;
mod layer;
mod login_page;
mod order;
mod store;
mod support;
mod tasks;

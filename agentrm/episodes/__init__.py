"""Episodes of others: their forms, read into trees and written from them."""

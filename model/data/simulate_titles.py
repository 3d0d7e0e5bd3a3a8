"""Readable titles of simulated items, made of the words of their genre."""

from dataclasses import dataclass
from itertools import product

import numpy as np


@dataclass(frozen=True, slots=True)
class Genre:
    """The words a genre's titles are made of."""

    name: str
    adjectives: tuple[str, ...]
    nouns: tuple[str, ...]


def _genre(name: str, adjectives: str, nouns: str) -> Genre:
    return Genre(name, tuple(adjectives.split()), tuple(nouns.split()))


GENRES = (
    _genre(
        "mystery",
        "Silent Locked Missing Hidden Crooked Midnight Poisoned Final",
        "Witness Letter Alibi Cellar Inspector Corridor Portrait Ledger Key Guest",
    ),
    _genre(
        "romance",
        "Tender Secret Reluctant Golden Borrowed Summer Unspoken Second",
        "Promise Wedding Heart Vow Waltz Proposal Orchard Embrace Season Rose",
    ),
    _genre(
        "space",
        "Distant Frozen Hollow Burning Lost Orbital Outer Silver",
        "Comet Station Signal Horizon Colony Engine Moon Voyager Nebula Armada",
    ),
    _genre(
        "fantasy",
        "Enchanted Broken Emerald Ancient Crimson Wandering Forgotten Twilight",
        "Crown Dragon Blade Oracle Forest Sorcerer Throne Raven Prophecy Gate",
    ),
    _genre(
        "horror",
        "Whispering Bleeding Buried Nameless Pale Haunted Starving Rotten",
        "Crypt Doll Asylum Shadow Well Attic Cradle Mirror Parish Scream",
    ),
    _genre(
        "history",
        "Royal Bitter Imperial Marching Fallen Besieged Loyal Iron",
        "Regiment Queen Treaty Fortress Rebellion Banner Empire Siege Duchess Fleet",
    ),
    _genre(
        "travel",
        "Winding Barefoot Endless Dusty Northern Slow Coastal High",
        "Road Harbour Caravan Island Map Railway Desert Pilgrim Valley Ferry",
    ),
    _genre(
        "cooking",
        "Simple Rustic Spiced Sunday Smoky Sweet Generous Wild",
        "Kitchen Table Oven Pantry Feast Garden Bakery Broth Harvest Supper",
    ),
    _genre(
        "comedy",
        "Awkward Accidental Loud Hopeless Ridiculous Polite Clumsy Cheerful",
        "Butler Holiday Neighbour Parrot Committee Roommate Rehearsal Sofa Uncle Parade",
    ),
    _genre(
        "western",
        "Lonesome Outlaw Red Restless Wanted Quiet Stolen Dry",
        "Canyon Saddle Sheriff Prairie Stallion Ranch Gold Rider Bounty Saloon",
    ),
    _genre(
        "espionage",
        "Double Coded Cold Vanishing Berlin Sleeping Classified Neutral",
        "Agent Cipher Dossier Embassy Defector Courier Protocol Passport Traitor Handler",
    ),
    _genre(
        "nature",
        "Quiet Feathered Deep Green Migrating Tidal Mossy Winter",
        "River Heron Meadow Whale Glacier Marsh Owl Reef Wolf Orchid",
    ),
)
_PLACES = "Ashford Bellmere Calloway Dunmore Eastwick Fairhaven Greyhollow Larkspur Marrow Winter"


def series_titles(genre: Genre, count: int, generator: np.random.Generator) -> list[str]:
    """Make titles for the series of one genre, all different; the short forms are used up first.

    Args:
        genre: Whose words to use.
        count: How many titles.
        generator: Decides which words come together.
    """
    places = _PLACES.split()
    plain = [
        f"The {adjective} {noun}" for adjective, noun in product(genre.adjectives, genre.nouns)
    ]
    short = plain + [f"The {noun} of {place}" for noun, place in product(genre.nouns, places)]
    long = [f"{title} of {place}" for title, place in product(plain, places)]
    titles = [short[i] for i in generator.permutation(len(short))]
    titles += [long[i] for i in generator.permutation(len(long))]
    rounds = -(-count // len(titles))
    numbered = [f"{title} ({number})" for number in range(2, rounds + 1) for title in titles]
    return (titles + numbered)[:count]

; A barman with two hands serves ingredients and cocktails in shot glasses; a cocktail has two ingredients, which a
; shaker mixes. A glass or shaker that was used must be cleaned before something else goes into it.
(define (domain barman)
  (:requirements :strips :typing)
  (:types
    hand level beverage dispenser container - object
    ingredient cocktail - beverage
    shot shaker - container)
  (:predicates
    (ontable ?vessel - container)
    (holding ?hand - hand ?vessel - container)
    (handempty ?hand - hand)
    (empty ?vessel - container)
    (clean ?vessel - container)
    (contains ?vessel - container ?drink - beverage)
    (used ?vessel - container ?drink - beverage)
    (dispenses ?tap - dispenser ?drink - ingredient)
    (shaker-empty-level ?shaker - shaker ?level - level)
    (shaker-level ?shaker - shaker ?level - level)
    (next ?lower - level ?upper - level)
    (unshaked ?shaker - shaker)
    (shaked ?shaker - shaker)
    (cocktail-part1 ?drink - cocktail ?part - ingredient)
    (cocktail-part2 ?drink - cocktail ?part - ingredient))

  (:action grasp
    :parameters (?hand - hand ?vessel - container)
    :precondition (and (ontable ?vessel) (handempty ?hand))
    :effect (and (holding ?hand ?vessel) (not (ontable ?vessel)) (not (handempty ?hand))))

  (:action leave
    :parameters (?hand - hand ?vessel - container)
    :precondition (holding ?hand ?vessel)
    :effect (and (ontable ?vessel) (handempty ?hand) (not (holding ?hand ?vessel))))

  (:action fill-shot
    :parameters (?glass - shot ?drink - ingredient ?hand - hand ?other - hand ?tap - dispenser)
    :precondition (and (holding ?hand ?glass) (handempty ?other) (dispenses ?tap ?drink)
                       (empty ?glass) (clean ?glass))
    :effect (and (contains ?glass ?drink) (used ?glass ?drink)
                 (not (empty ?glass)) (not (clean ?glass))))

  (:action refill-shot
    :parameters (?glass - shot ?drink - ingredient ?hand - hand ?other - hand ?tap - dispenser)
    :precondition (and (holding ?hand ?glass) (handempty ?other) (dispenses ?tap ?drink)
                       (empty ?glass) (used ?glass ?drink))
    :effect (and (contains ?glass ?drink) (not (empty ?glass))))

  (:action empty-shot
    :parameters (?hand - hand ?glass - shot ?drink - beverage)
    :precondition (and (holding ?hand ?glass) (contains ?glass ?drink))
    :effect (and (empty ?glass) (not (contains ?glass ?drink))))

  (:action clean-shot
    :parameters (?glass - shot ?drink - beverage ?hand - hand ?other - hand)
    :precondition (and (holding ?hand ?glass) (handempty ?other) (empty ?glass) (used ?glass ?drink))
    :effect (and (clean ?glass) (not (used ?glass ?drink))))

  (:action pour-shot-to-clean-shaker
    :parameters (?glass - shot ?drink - ingredient ?shaker - shaker ?hand - hand ?before - level ?after - level)
    :precondition (and (holding ?hand ?glass) (contains ?glass ?drink) (empty ?shaker) (clean ?shaker)
                       (shaker-level ?shaker ?before) (next ?before ?after))
    :effect (and (contains ?shaker ?drink) (unshaked ?shaker) (shaker-level ?shaker ?after) (empty ?glass)
                 (not (contains ?glass ?drink)) (not (shaker-level ?shaker ?before))
                 (not (empty ?shaker)) (not (clean ?shaker))))

  (:action pour-shot-to-used-shaker
    :parameters (?glass - shot ?drink - ingredient ?shaker - shaker ?hand - hand ?before - level ?after - level)
    :precondition (and (holding ?hand ?glass) (contains ?glass ?drink) (unshaked ?shaker)
                       (shaker-level ?shaker ?before) (next ?before ?after))
    :effect (and (contains ?shaker ?drink) (shaker-level ?shaker ?after) (empty ?glass)
                 (not (contains ?glass ?drink)) (not (shaker-level ?shaker ?before))))

  (:action empty-shaker
    :parameters (?hand - hand ?shaker - shaker ?drink - cocktail ?before - level ?after - level)
    :precondition (and (holding ?hand ?shaker) (contains ?shaker ?drink) (shaked ?shaker)
                       (shaker-level ?shaker ?before) (shaker-empty-level ?shaker ?after))
    :effect (and (shaker-level ?shaker ?after) (empty ?shaker)
                 (not (shaked ?shaker)) (not (shaker-level ?shaker ?before)) (not (contains ?shaker ?drink))))

  (:action clean-shaker
    :parameters (?hand - hand ?other - hand ?shaker - shaker)
    :precondition (and (holding ?hand ?shaker) (handempty ?other) (empty ?shaker))
    :effect (clean ?shaker))

  (:action shake
    :parameters (?drink - cocktail ?first - ingredient ?second - ingredient ?shaker - shaker ?hand - hand ?other - hand)
    :precondition (and (holding ?hand ?shaker) (handempty ?other) (unshaked ?shaker)
                       (contains ?shaker ?first) (contains ?shaker ?second)
                       (cocktail-part1 ?drink ?first) (cocktail-part2 ?drink ?second))
    :effect (and (shaked ?shaker) (contains ?shaker ?drink) (not (unshaked ?shaker))
                 (not (contains ?shaker ?first)) (not (contains ?shaker ?second))))

  (:action pour-shaker-to-shot
    :parameters (?drink - beverage ?glass - shot ?hand - hand ?shaker - shaker ?before - level ?after - level)
    :precondition (and (holding ?hand ?shaker) (shaked ?shaker) (contains ?shaker ?drink)
                       (empty ?glass) (clean ?glass) (shaker-level ?shaker ?before) (next ?after ?before))
    :effect (and (contains ?glass ?drink) (shaker-level ?shaker ?after)
                 (not (clean ?glass)) (not (empty ?glass)) (not (shaker-level ?shaker ?before)))))
